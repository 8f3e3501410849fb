"""Traces become SFT rows, in the form in which the policy will be sampled, and rows become steps. Pure tensors, no Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rollout.prompt.feedback import renumber_feedback
from rollout.prompt.meta_prompt import MetaPrompt
from rollout.settings import ModelSettings
from rollout.traces import TeacherRound
from trainer.engines.token_rows import TokenRows
from workflow.language.parse import find_source
from workflow.language.reasoning import format_reasoning, join_reasoning, policy_turn, split_reasoning

PROMPT_END_TOKENS = 16
"""Tokens in which a chat template's opening of the policy's turn ends."""


@dataclass(frozen=True, slots=True)
class SFTRow:
    """One trace in the policy's tokens."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    """The policy's turns, each with the end-of-text token after it, and the feedback between them."""
    loss_mask: tuple[int, ...]
    """1 on the last of the policy's turns, 0 on feedback and on the turns before, whose workflows failed."""


class LeftOut(NamedTuple):
    """Why a trace is no row."""

    reason: str
    """To follow "with"."""
    remedy: str = ""
    """Empty where there is none to name."""


class Turn(NamedTuple):
    """One turn of the policy as a row holds it."""

    feedback: str
    """What it reads before; empty in the first turn."""
    text: str
    """What it writes, its reasoning between ``<think>`` tags."""


def turns_of(lesson: Sequence[TeacherRound], most: int, rounds: int) -> list[Turn]:
    """The rounds of a trace in ``most`` turns; reasoning of rounds before these goes before that of the first, as in the paper (3.2).

    Args:
        rounds: of the policy's episodes, which its feedback names.
    """
    first = max(0, len(lesson) - most)
    turns = [Turn("", concatenate([one.completion for one in lesson[: first + 1]]))]
    later = enumerate(lesson[first + 1 :], 1)
    return turns + [Turn(renumber_feedback(one.feedback, number, rounds), one.completion) for number, one in later]


def concatenate(completions: Sequence[str]) -> str:
    """The reasoning of all completions, then the last one's workflow; prose before the code is the reasoning of one without tags."""
    thoughts = [format_reasoning(completion) for completion in completions[:-1]]
    reasoning, answer = split_reasoning(completions[-1])
    if reasoning:
        return join_reasoning("\n\n".join([*thoughts, reasoning]), answer)
    return "\n\n".join([*thoughts, completions[-1]])


def sft_row(prompt_ids: Sequence[int], turns: Sequence[Turn], prompt: MetaPrompt, settings: ModelSettings) -> SFTRow | LeftOut:
    """A conversation as a row, or why it is none: a cut workflow would teach a broken one.

    Each turn goes on where the tokens before it end, as a sample of the policy does, and feedback is the tokens that episodes put between
    two samples; nothing is tokenised across a border.

    Args:
        prompt_ids: the meta-prompt.
        prompt: the policy's, for its tokenizer and its feedback.

    Raises:
        ValueError: the tokenizer has no end-of-text token.
    """
    tokenizer = prompt.tokenizer
    if tokenizer.eos_token_id is None:
        raise ValueError(f"The tokenizer {tokenizer.name_or_path} has no eos_token, so the policy could never end a completion: set one.")
    ids, mask = list(prompt_ids), []
    for number, turn in enumerate(turns):
        if number:
            feedback = prompt.feedback(turn.feedback, ended=True)
            ids += feedback
            mask += [0] * len(feedback)
        target = policy_turn(turn.text, str(tokenizer.decode(ids[-PROMPT_END_TOKENS:])))
        written = tokenizer(target, add_special_tokens=False)["input_ids"]
        if len(written) >= settings.max_response_tokens:  # pyright: ignore[reportArgumentType]
            limit = f"model.max_response_tokens={settings.max_response_tokens}"
            return LeftOut(f"a reply longer than {limit}", "raise model.max_response_tokens")
        if find_source(target) != find_source(turn.text):
            return LeftOut("a workflow that its reasoning hides", "ask another teacher (distil.model)")
        ids += [*written, tokenizer.eos_token_id]  # pyright: ignore[reportGeneralTypeIssues]
        mask += [int(number == len(turns) - 1)] * (len(written) + 1)  # pyright: ignore[reportArgumentType]
    return SFTRow(tuple(ids[: len(prompt_ids)]), tuple(ids[len(prompt_ids) :]), tuple(mask))


def sft_batch(rows: Sequence[SFTRow]) -> TokenRows:
    """Rows of one SFT step; the loss counts the turn that was kept.

    Raises:
        ValueError: no rows, or an empty prompt or response.
    """
    return TokenRows.of([(row.prompt_ids, row.response_ids) for row in rows], masks=[row.loss_mask for row in rows])


def order_rows(weights: Sequence[float], draws: int, seed: int) -> list[int]:
    """Which row stands at each of ``draws`` places, the same at every call.

    The rows are passed over in a new random order each time; one whose weight is a third of the largest is met in every third pass.

    Args:
        weights: of each row, above 0 for one at least; only their ratios matter.
    """
    share = np.asarray(weights) / np.max(weights)
    met = np.random.default_rng([seed, 2]).random(len(share))
    rng, order = np.random.default_rng([seed, 1]), []
    while len(order) < draws:
        due = np.floor(met + share) > np.floor(met)
        met += share
        order += [row for row in rng.permutation(len(share)).tolist() if due[row]]
    return order[:draws]
