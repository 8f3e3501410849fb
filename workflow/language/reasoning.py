"""A model's reasoning and its answer: apart, as one text, and as the turn that a policy is taught."""

import re

from workflow.language.parse import WORKFLOW_CLASS, find_source
from workflow.text import split_thoughts

_TAG = re.compile(r"</?think>")
_BLANK_START = re.compile(r"\A(?:[^\S\n]*\n)+")
_FENCE = re.compile(r"^[^\S\n]*```", re.MULTILINE)


def split_reasoning(text: str) -> tuple[str, str]:
    """Reasoning and answer of a reply whose thoughts stand between ``<think>`` or other vendors' tags (``workflow.text``).

    The last closing tag before the workflow ends the reasoning, so one that the reasoning itself mentions does not.
    """
    last_class = max((match.start() for match in WORKFLOW_CLASS.finditer(text)), default=None)
    thoughts, answer = split_thoughts(text, last_class)
    return _clean(thoughts), _BLANK_START.sub("", answer) if thoughts else answer


def join_reasoning(reasoning: str, answer: str) -> str:
    """One text of both, for what reads a whole completion; the answer alone where there is no reasoning."""
    reasoning = _clean(reasoning)
    return f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer


def policy_turn(text: str, prompt_end: str) -> str:
    """A teacher's reply as the policy would sample it: the target of supervised fine-tuning (paper section 3.1: reasoning, then workflow).

    Where the prompt ends inside ``<think>``, as R1's templates do, the target goes on inside and closes it; where the teacher did not
    reason apart, its prose before the code is the reasoning, so that no code ever stands in thoughts that are not closed. Elsewhere
    reasoning stands between ``<think>`` tags of the target's own, also for a policy whose template does not know them: the parser reads
    only what follows ``</think>``, so drafts in the reasoning cannot be taken for the workflow. Without reasoning the text is as it was.

    Args:
        text: the reply, with its reasoning (if any) as ``join_reasoning`` writes it.
        prompt_end: the last characters of the prompt.
    """
    reasoning, answer = split_reasoning(text)
    if not prompt_end.rstrip().endswith("<think>"):
        return join_reasoning(reasoning, answer)
    if not reasoning:
        reasoning, answer = _prose_and_code(answer)
    begin = "" if prompt_end.endswith("\n") else "\n"
    return f"{begin}{reasoning}\n</think>\n\n{answer}"


def format_reasoning(text: str) -> str:
    """The reasoning of a completion for people to read: the thoughts where they are marked, else the prose before the code."""
    reasoning, _ = split_reasoning(text)
    return reasoning or text.split("```")[0].split("class Workflow")[0].strip()


def _clean(reasoning: str) -> str:
    """Without tags: one inside would end the thoughts too early."""
    return _TAG.sub("", reasoning).strip()


def _prose_and_code(answer: str) -> tuple[str, str]:
    """What stands before the workflow's block, and the rest; no prose where they cannot be told apart."""
    classes = list(WORKFLOW_CLASS.finditer(answer))
    if not classes:
        return "", answer
    start = classes[-1].start()
    fences = [fence.start() for fence in _FENCE.finditer(answer, 0, start)]
    prose, code = _clean(answer[: fences[-1] if fences else start]), answer[fences[-1] if fences else start :]
    return (prose, code) if find_source(code) == find_source(answer) else ("", answer)
