"""Hop 9: groups of episodes become advantages and tensors. Pure tensors, no Ray."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rollout.records import Episode, Group
from trainer.algorithm.credit import credited_advantages
from trainer.engines.token_rows import TokenRows, pad
from trainer.settings import GRPOSettings


@dataclass(frozen=True, slots=True)
class PolicyBatch:
    """One step's scored episodes with their advantages. B rows; T is the longest response."""

    rows: TokenRows
    rollout_logprobs_BT: torch.Tensor
    """Log-probability of each sampled token as the rollout engine reported it; 0 elsewhere."""
    advantages_BT: torch.Tensor
    """0 where the loss mask is 0."""
    rewards_B: torch.Tensor
    group_B: torch.Tensor
    """Index of each row's group; rows of a group are neighbours."""
    temperature: float
    """Sampling temperature, at which the log-probabilities are compared."""
    masked_episodes: int
    """Episodes left out because infrastructure failed."""
    dropped_groups: int
    """Groups left out because fewer than 2 of their episodes are scored."""


def policy_batch(groups: Sequence[Group], settings: GRPOSettings, *, temperature: float = 1.0) -> PolicyBatch | None:
    """Scored episodes as tensors with advantages; of an episode of several rounds the feedback carries no loss.

    An episode without a score is left out of the loss and of its group's baseline; a group with fewer than two
    scored episodes has no baseline and is left out whole.

    Args:
        groups: what the rollout collected in one step.
        settings: names the advantage estimator.
        temperature: at which the completions were sampled.

    Returns:
        the batch, or None where no group is left.

    Raises:
        ValueError: the estimator is unknown.
    """
    kept: list[tuple[int, Group, Episode]] = []
    dropped = 0
    for number, group in enumerate(groups):
        scored = [episode for episode in group.episodes if episode.score is not None and any(episode.response_mask)]
        if len(scored) < 2:
            dropped += 1
            continue
        kept += [(number, group, episode) for episode in scored]
    if not kept:
        return None
    rows = TokenRows.of(
        [(group.prompt_ids, episode.response_ids) for _, group, episode in kept], masks=[episode.response_mask for _, _, episode in kept]
    )
    rewards_B = torch.tensor([episode.score.total for _, _, episode in kept if episode.score is not None])
    group_of_row = [number for number, _, _ in kept]
    return PolicyBatch(
        rows=rows,
        rollout_logprobs_BT=pad([episode.response_logprobs for _, _, episode in kept], torch.float32),
        advantages_BT=credited_advantages(kept, rewards_B, rows.loss_mask_BT, settings),
        rewards_B=rewards_B,
        group_B=torch.tensor(group_of_row),
        temperature=temperature,
        masked_episodes=sum(episode.score is None for group in groups for episode in group.episodes),
        dropped_groups=dropped,
    )
