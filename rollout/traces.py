"""What a teacher was asked and wrote: the record that distillation keeps and that supervised fine-tuning learns from."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workflow.language.reasoning import join_reasoning
from workflow.outcome import Outcome

REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class TeacherRound:
    """One reply of the teacher."""

    text: str
    """The reply without the reasoning that it gave apart: prose, if any, and the workflow."""
    reasoning: str = ""
    """The teacher's chain of thought, from a field of its own or from between ``<think>`` tags; empty where it gave none."""
    finish_reason: str = ""
    """How the reply ended, in the endpoint's word; ``refused`` where the endpoint took no such prompt or filtered the reply."""
    feedback: str = ""
    """The feedback on the round before, which the teacher read; empty in the first round."""

    @property
    def completion(self) -> str:
        """Reasoning and text as one text, in the form that ``workflow.language.reasoning`` splits again."""
        return join_reasoning(self.reasoning, self.text)


@dataclass(frozen=True, slots=True)
class Trace:
    """One query put to the teacher and what became of it."""

    index: int
    """Number of the query, from 0; a resumed distillation goes on after the last one."""
    problem_id: str
    query: str
    rounds: tuple[TeacherRound, ...]
    """Every reply in order; none where the endpoint failed at once."""
    outcome: Outcome
    """Of the kept round."""
    kept: int = 0
    """Index of the round whose workflow is the result, as ``distil.keep_round`` says."""
    reward: float | None = None
    """Total reward of the kept round's workflow, with what all rounds cost; None where it was not judged, and in traces of older runs."""
    fault: str = ""
    """Why infrastructure failed; empty where it did not."""

    @property
    def lesson(self) -> tuple[TeacherRound, ...]:
        """The rounds up to the kept one."""
        return self.rounds[: self.kept + 1]

    @property
    def completion(self) -> str:
        """The kept round's reasoning and text; empty where the teacher wrote nothing."""
        return self.lesson[-1].completion if self.rounds else ""

    @property
    def no_lesson(self) -> str:
        """Why it is none, to follow "with"; empty where its workflow ran to an answer that was judged."""
        last = self.rounds[-1] if self.rounds else None
        if self.outcome in (Outcome.PASSED, Outcome.WRONG_ANSWER):
            return ""
        if self.outcome is not Outcome.NO_WORKFLOW or last is None:
            return f"the outcome {self.outcome}"
        if last.finish_reason == REFUSED:
            return "a prompt or a reply that the teacher's endpoint refused"
        if last.finish_reason == "length":
            return "a reply that was cut off at distil.max_tokens"
        if last.reasoning and not last.text.strip():
            return "thoughts that are never closed or that no answer follows"
        return f"the outcome {self.outcome}"


def trace_of_row(row: Mapping[str, Any]) -> Trace:
    """A row of traces.jsonl as a record; rows of runs before there were several rounds have the reply's fields among their own."""
    values = dict(row)
    if "rounds" not in values:
        reply = {name: values.pop(name, "") for name in ("text", "reasoning", "finish_reason")}
        values["rounds"] = [reply] if any(reply.values()) else []
    rounds = tuple(TeacherRound(**one) for one in values["rounds"])
    return Trace(**{**values, "rounds": rounds, "outcome": Outcome(values["outcome"])})


def describe_replies(traces: Iterable[Trace]) -> str:
    """One line on what a teacher's replies are like."""
    counts: Counter[str] = Counter()
    for trace in traces:
        counts["queries"] += bool(trace.rounds)
        for one in trace.rounds:
            counts["replies"] += 1
            counts["reasoning"] += bool(one.reasoning)
            counts["cut off"] += one.finish_reason == "length"
            counts["refused"] += one.finish_reason == REFUSED
    replies = max(1, counts["replies"])
    shares = {name: counts[name] / replies for name in ("reasoning", "cut off", "refused")}
    return (
        f"Teacher: of {counts['replies']} replies to {counts['queries']} queries {shares['reasoning']:.0%} with reasoning, "
        f"{shares['cut off']:.0%} cut off at distil.max_tokens, {shares['refused']:.0%} refused by its endpoint."
    )
