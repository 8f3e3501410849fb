"""Which tokens earn what: ``trainer.grpo.credit``. Whatever it is, rewards become advantages in ``trainer.algorithm.advantage``.

- ``episode``: all sampled tokens of an episode have its advantage among its siblings.
- ``round``: the tokens of a round have the advantage of that round among the siblings that have one, by the reward of
  ``rollout.groups.credit``. To the estimator each (episode, round) is a row, each (group, round) a group. A round that no sibling
  has too is compared with nothing: its advantage is 0.
- ``span``: as ``episode``, and on the tokens of an operator call that was edited away (``rollout.groups.counterfactual``) in addition
  what the reward loses without it, in the unit of the advantages (as much for a reward as the estimator gives in this batch), and no
  more than the largest of them.
"""

from collections import Counter
from collections.abc import Sequence

import torch

from rollout.groups.credit import round_reward
from rollout.records import Episode, Group
from trainer.algorithm.advantage import Terms, advantages
from trainer.settings import GRPOSettings

Scored = Sequence[tuple[int, Group, Episode]]
"""The rows of a batch: number of the group, group, episode of it."""


def credited_advantages(
    scored: Scored,
    rewards_B: torch.Tensor,
    loss_mask_BT: torch.Tensor,
    settings: GRPOSettings,
    terms: Terms | None = None,
    of_rows: int = 0,
) -> torch.Tensor:
    """Advantages of every sampled token.

    Args:
        scored: the episodes; at least 2 of each group.
        rewards_B: what each is worth, shape (B,).
        loss_mask_BT: 1 on sampled tokens, shape (B, T).
        settings: name the credit and the estimator.
        terms: what the rewards are made of; those of rounds are not known by term.
        of_rows: episodes that the loss is over, where there are others whose groups are flat; 0: these.

    Returns:
        advantages_BT: shape (B, T), 0 where the mask is 0.
    """
    if settings.credit == "round":
        return _by_round(scored, rewards_B, loss_mask_BT, settings)
    groups = [number for number, _, _ in scored]
    advantages_BT = advantages(rewards_B, groups, loss_mask_BT, settings, terms, of_rows)
    if settings.credit == "span":
        worth_BT = _worth(scored, loss_mask_BT)
        if worth_BT.any():
            most = float(advantages_BT.abs().max()) or 1.0
            scale = _per_reward(advantages_BT, rewards_B, groups, settings.min_deviation)
            advantages_BT += (worth_BT * scale).clamp(-most, most)
    return advantages_BT


def _by_round(scored: Scored, rewards_B: torch.Tensor, mask_BT: torch.Tensor, settings: GRPOSettings) -> torch.Tensor:
    parts = [
        (row, (group, number), round_reward(episode, number, float(rewards_B[row])), span)
        for row, (group, _, episode) in enumerate(scored)
        for number, span in enumerate(episode.round_spans)
        if span[0] < span[1]
    ]
    siblings = Counter(group for _, group, _, _ in parts)
    parts = [part for part in parts if siblings[part[1]] > 1]
    numbers = {group: number for number, group in enumerate(siblings)}
    mask_RT = torch.zeros(len(parts), mask_BT.shape[1])
    for part, (_, _, _, (start, end)) in enumerate(parts):
        mask_RT[part, start:end] = 1
    rewards_R = torch.tensor([reward for _, _, reward, _ in parts])
    advantages_RT = advantages(rewards_R, [numbers[group] for _, group, _, _ in parts], mask_RT, settings)
    rows_R = torch.tensor([row for row, _, _, _ in parts])
    return torch.zeros(mask_BT.shape).index_add(0, rows_R, advantages_RT) * mask_BT


def _worth(scored: Scored, mask_BT: torch.Tensor) -> torch.Tensor:
    """What the reward loses without the operator calls that each token wrote, shape (B, T)."""
    worth_BT = torch.zeros(mask_BT.shape)
    for row, (_, group, episode) in enumerate(scored):
        place = next(place for place, sibling in enumerate(group.episodes) if sibling is episode)
        for edit in group.edits:
            for span in edit.spans:
                if span.episode == place and edit.difference is not None:
                    worth_BT[row, span.start : span.end] += edit.difference
    return worth_BT * mask_BT


def _per_reward(advantages_BT: torch.Tensor, rewards_B: torch.Tensor, groups: Sequence[int], least: float) -> float:
    """Advantage for one unit of reward above the group's mean, over the episodes that have one; 1 where none has.

    Args:
        least: deviation of the rewards that is divided by at least: an estimator that divides by a group's own deviation makes as much of
            an AST unit as of a solved problem, and a call must not be worth that many units.
    """
    taught_B = advantages_BT.abs().amax(dim=1) > 0
    if not taught_B.any():
        return 1.0
    group_B = torch.tensor(groups)
    means_G = torch.zeros(int(group_B.max()) + 1).scatter_reduce(0, group_B, rewards_B, "mean", include_self=False)
    above = float((rewards_B - means_G[group_B])[taught_B].square().mean().sqrt())
    return float(advantages_BT.abs().amax(dim=1)[taught_B].square().mean().sqrt()) / max(above, least, 1e-6)
