"""What an episode's reward is before it becomes an advantage: its score, less what is taken off for length and for the KL."""

from collections.abc import Mapping, Sequence

import torch

from reward.terms import PERFORMANCE
from rollout.records import Episode
from trainer.algorithm.advantage import Terms
from trainer.engines.platform import select_platform
from trainer.settings import GRPOSettings
from workflow.registry import short_name

select_platform()

from verl.trainer.ppo.core_algos import kl_penalty  # noqa: E402


def is_cut_off(episode: Episode) -> bool:
    """True where any of its completions ends at the limit of tokens."""
    return any(part.completion.finish_reason == "length" for part in episode.rounds)


def shaped_reward(episode: Episode, settings: GRPOSettings, max_tokens: int) -> float:
    """The score's total, with ``overlong=shape`` less up to 1 where the longest completion gets near ``max_tokens`` (DAPO, equation 13)."""
    assert episode.score is not None
    if settings.overlong != "shape":
        return episode.score.total
    longest, buffer = max(len(part.completion.token_ids) for part in episode.rounds), settings.overlong_buffer * max_tokens
    return episode.score.total - min(max((longest - (max_tokens - buffer)) / buffer, 0.0), 1.0)


def terms_of(episodes: Sequence[Episode], rewards_B: torch.Tensor, weights: Mapping[str, float]) -> Terms | None:
    """What the rewards are made of, by the weights of the run; None where performance has none.

    What no term has (the floor, which stands for the performance of an episode without an answer, and what was taken off) counts with the
    performance, so that weighted terms add up to the rewards.
    """
    if not weights.get(PERFORMANCE):
        return None
    values: dict[str, torch.Tensor] = {}
    rest_B = rewards_B
    for name, weight in weights.items():
        if weight and name != PERFORMANCE:
            logged = short_name(name)
            values[name] = torch.tensor([episode.score.terms.get(logged, 0.0) if episode.score else 0.0 for episode in episodes])
            rest_B = rest_B - weight * values[name]
    values[PERFORMANCE] = rest_B / weights[PERFORMANCE]
    return Terms({name: weights[name] for name in values}, values)


def episode_kl(episodes: Sequence[Episode], reference_BT: torch.Tensor, mask_BT: torch.Tensor, kind: str) -> torch.Tensor:
    """KL of each episode from the policy that sampled it to the reference, summed over its sampled tokens, in nats, shape (B,).

    Args:
        reference_BT: log-probabilities of the responses under the reference.
        mask_BT: 1 on sampled tokens.
        kind: verl's name of the estimator.
    """
    logprobs_BT = torch.zeros(mask_BT.shape)
    for row, episode in enumerate(episodes):
        logprobs_BT[row, : len(episode.response_logprobs)] = torch.tensor(episode.response_logprobs)
    return (kl_penalty(logprobs_BT, reference_BT, kind) * mask_BT).sum(dim=1)  # pyright: ignore[reportArgumentType]
