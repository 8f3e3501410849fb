"""Hop 9: groups of episodes become advantages and tensors. Pure tensors, no Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from rollout.records import Episode, Group
from trainer.algorithm.credit import credited_advantages
from trainer.algorithm.data_order import flat_rule
from trainer.algorithm.rewards import is_cut_off, shaped_reward, terms_of
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
    flat_groups: int = 0
    """Groups without differences, which have advantage 0 or (``flat_groups=drop``) are left out."""
    cut_off_episodes: int = 0
    """Episodes left out of the loss, not of their groups' baselines, because a completion was cut off."""
    kl: float | None = None
    """KL to the reference in nats per token, where it was taken off the rewards."""
    most_tokens: int = 1
    """Sampled tokens that an episode may have at most: what ``seq-mean-token-sum-norm`` divides by."""


@dataclass(frozen=True, slots=True)
class BatchRules:
    """What a batch depends on beside the settings of GRPO."""

    temperature: float = 1.0
    """At which the completions were sampled."""
    max_response_tokens: int = 4096
    """Of one completion."""
    rounds: int = 1
    """Completions of an episode at most."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of the reward's terms, by name."""


def scored_episodes(groups: Sequence[Group]) -> list[tuple[int, Group, Episode]]:
    """The episodes that can be compared, each with its group and the group's number.

    An episode without a score is left out of the loss and of its group's baseline; a group with fewer than two
    scored episodes has no baseline and is left out whole.
    """
    found: list[tuple[int, Group, Episode]] = []
    for number, group in enumerate(groups):
        scored = [episode for episode in group.episodes if episode.score is not None and any(episode.response_mask)]
        found += [(number, group, episode) for episode in scored] if len(scored) > 1 else []
    return found


def token_rows(scored: Sequence[tuple[int, Group, Episode]]) -> TokenRows:
    """Each episode as a row; the feedback between rounds carries no loss."""
    pairs = [(group.prompt_ids, episode.response_ids) for _, group, episode in scored]
    return TokenRows.of(pairs, masks=[episode.response_mask for _, _, episode in scored])


def policy_batch(
    groups: Sequence[Group], settings: GRPOSettings, rules: BatchRules = BatchRules(), kl_B: torch.Tensor | None = None
) -> PolicyBatch | None:
    """Scored episodes as tensors with advantages.

    Args:
        groups: what the rollout collected in one step.
        settings: name the advantage estimator, and say what becomes of flat groups and of completions that were cut off.
        rules: what else the batch depends on.
        kl_B: KL of each of ``scored_episodes(groups)`` in nats, where it is taken off the rewards.

    Returns:
        the batch, or None where nothing is left to learn from.

    Raises:
        ValueError: the estimator is unknown.
    """
    scored = scored_episodes(groups)
    if not scored:
        return None
    rows = token_rows(scored)
    rewards_B = torch.tensor([shaped_reward(episode, settings, rules.max_response_tokens) for _, _, episode in scored])
    if kl_B is not None:
        rewards_B -= settings.kl_coef * kl_B
    flat_B = _flat_rows(scored, rewards_B, settings)
    cut_off_B = torch.tensor([settings.overlong == "mask" and is_cut_off(episode) for _, _, episode in scored])
    learnt_B = ~cut_off_B & ~flat_B if settings.flat_groups == "drop" else ~cut_off_B
    if not learnt_B.any():
        return None
    advantages_BT = torch.zeros(rows.loss_mask_BT.shape)
    if not flat_B.all():
        teaching = [one for one, is_flat in zip(scored, flat_B.tolist(), strict=True) if not is_flat]
        advantages_BT[~flat_B] = episode_advantages(
            teaching, rewards_B[~flat_B], rows.select(~flat_B), settings, rules, of_rows=int(learnt_B.sum())
        )
    group_B = torch.tensor([number for number, _, _ in scored])
    return PolicyBatch(
        rows=rows.select(learnt_B),
        rollout_logprobs_BT=pad([episode.response_logprobs for _, _, episode in scored], torch.float32)[learnt_B],
        advantages_BT=advantages_BT[learnt_B],
        rewards_B=rewards_B[learnt_B],
        group_B=group_B[learnt_B],
        temperature=rules.temperature,
        masked_episodes=sum(episode.score is None for group in groups for episode in group.episodes),
        dropped_groups=len(groups) - len(group_B.unique()),
        flat_groups=len(group_B[flat_B].unique()),
        cut_off_episodes=int(cut_off_B.sum()),
        kl=None if kl_B is None else float(kl_B.sum() / rows.loss_mask_BT.sum()),
        most_tokens=rules.rounds * rules.max_response_tokens,
    )


def _flat_rows(scored: Sequence[tuple[int, Group, Episode]], rewards_B: torch.Tensor, settings: GRPOSettings) -> torch.Tensor:
    """True (B,) for the episodes of flat groups; where rewards count, they must be flat with what length and KL took off them, too."""
    flat = flat_rule(settings)
    flat_B = torch.tensor([flat(group) for _, group, _ in scored])
    if settings.flat_by == "reward":
        number_B = torch.tensor([number for number, _, _ in scored])
        for number in number_B[flat_B].unique():
            own_B = number_B == number
            flat_B[own_B] = bool(rewards_B[own_B].max() - rewards_B[own_B].min() <= settings.flat_tolerance)
    return flat_B


def episode_advantages(
    scored: Sequence[tuple[int, Group, Episode]],
    rewards_B: torch.Tensor,
    rows: TokenRows,
    settings: GRPOSettings,
    rules: BatchRules,
    *,
    of_rows: int,
) -> torch.Tensor:
    """Advantages (B, T) of episodes whose groups are not flat, as ``trainer.grpo.credit`` gives them to tokens.

    Args:
        of_rows: episodes that the loss is over, those of flat groups among them.
    """
    terms = terms_of([episode for _, _, episode in scored], rewards_B, rules.weights)
    return credited_advantages(scored, rewards_B, rows.loss_mask_BT, settings, terms, of_rows=of_rows)
