"""GDPO (arXiv 2601.05242): each term of the reward is normalised in its group by itself, before weights add them up."""

from collections.abc import Mapping

import numpy as np
import torch

from rollout.groups.flat import FLAT_SPREAD


def gdpo(
    response_mask: torch.Tensor,
    index: np.ndarray,
    terms: Mapping[str, torch.Tensor],
    term_weights: Mapping[str, float],
    min_deviation: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted sum of each term's distance from its group's mean in deviations of the group, over its deviation in the batch.

    The mean over the batch's episodes is 0, so whitening them is a division. verl's function of this name whitens over tokens, which
    moves what is shorter than the rest.

    Args:
        response_mask: shape (B, T).
        index: (B,), the number of each row's group.
        terms: (B,) each, unweighted. One that does not differ in a group says nothing there.
        term_weights: by the terms' names.
        min_deviation: least deviation to divide the sum by.

    Returns:
        advantages (B, T), twice, as verl's estimators do.
    """
    total_B = torch.zeros(len(response_mask))
    for name, weight in term_weights.items():
        for group in np.unique(index):
            rows = torch.as_tensor(index == group)
            values = terms[name][rows]
            if abs(weight) * float(values.max() - values.min()) > FLAT_SPREAD:
                total_B[rows] += weight * (values - values.mean()) / values.std()
    deviation = total_B.square().mean().sqrt().clamp_min(max(min_deviation, 1e-6))
    advantages_BT = (total_B / deviation)[:, None] * response_mask
    return advantages_BT, advantages_BT
