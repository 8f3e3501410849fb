"""Hop 9: groups of episodes become advantages and tensors; traces become SFT rows. Pure tensors, no Ray."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from rollout.records import Episode, Group
from rollout.settings import ModelSettings
from trainer.algorithm.credit import credited_advantages
from trainer.engines.token_rows import TokenRows, pad
from trainer.settings import GRPOSettings
from workflow.language.parse import find_source
from workflow.language.reasoning import policy_turn

PROMPT_END_TOKENS = 16
"""Tokens in which a chat template's opening of the policy's turn ends."""


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


@dataclass(frozen=True, slots=True)
class SFTRow:
    """One trace in the policy's tokens."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    """Ends with the end-of-text token."""


class LeftOut(NamedTuple):
    """Why a trace is no row."""

    reason: str
    """To follow "with"."""
    remedy: str


def sft_row(prompt: Sequence[int], text: str, tokenizer: Any, settings: ModelSettings) -> SFTRow | LeftOut:
    """A trace as a row, or why it is none; see ``sft_rows``."""
    turn = policy_turn(text, tokenizer.decode(list(prompt[-PROMPT_END_TOKENS:])))
    response = tokenizer(turn, add_special_tokens=False)["input_ids"]
    if len(prompt) > settings.max_prompt_tokens:
        limit = f"model.max_prompt_tokens={settings.max_prompt_tokens}"
        return LeftOut(f"a prompt longer than {limit}", "raise model.max_prompt_tokens")
    if len(response) >= settings.max_response_tokens:
        limit = f"model.max_response_tokens={settings.max_response_tokens}"
        return LeftOut(f"a reply longer than {limit}", "raise model.max_response_tokens")
    if find_source(turn) != find_source(text):
        return LeftOut("a workflow that its reasoning hides", "ask another teacher (distil.model)")
    return SFTRow(tuple(prompt), (*response, tokenizer.eos_token_id))


def sft_rows(
    traces: Sequence[tuple[Sequence[int], str]],
    tokenizer: Any,
    settings: ModelSettings,
    say: Callable[[str], None] = lambda text: None,
) -> list[SFTRow]:
    """Traces as rows, each reply in the form in which the policy will be sampled (``workflow.language.reasoning.policy_turn``).

    Left out, since a cut workflow teaches a broken one: those longer than the model's limits; and those that, so written, would hold
    another workflow than the one that passed.

    Args:
        traces: (ids of the meta-prompt, the teacher's reply, its reasoning between ``<think>`` tags).
        tokenizer: the policy's Hugging Face tokenizer.
        settings: the limits.
        say: prints one line: how many of the traces are left out, and why.

    Raises:
        ValueError: the tokenizer has no end-of-text token, or no trace is left; the message says why.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(f"The tokenizer {tokenizer.name_or_path} has no eos_token, so the policy could never end a completion: set one.")
    rows: list[SFTRow] = []
    left_out: Counter[LeftOut] = Counter()
    for prompt, text in traces:
        row = sft_row(prompt, text, tokenizer, settings)
        if isinstance(row, SFTRow):
            rows.append(row)
        else:
            left_out[row] += 1
    reasons = ", ".join(f"{count} with {one.reason}" for one, count in left_out.items()) or "there are none"
    if not rows:
        remedies = " and ".join(one.remedy for one in left_out) or "run the stage distil first"
        raise ValueError(f"None of the {len(traces)} passed traces is left for SFT ({reasons}): {remedies}, in a new trainer.run_dir.")
    if left_out:
        say(f"{left_out.total()} of {len(traces)} passed traces are left out of SFT: {reasons}.")
    return rows


def sft_batch(rows: Sequence[SFTRow]) -> TokenRows:
    """Rows of one SFT step; the loss counts every response token.

    Raises:
        ValueError: no rows, or an empty prompt or response.
    """
    return TokenRows.of([(row.prompt_ids, row.response_ids) for row in rows])
