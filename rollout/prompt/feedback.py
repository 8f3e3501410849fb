"""What the policy reads between two rounds: how its workflow ended, what the public tests say, and what it called.

Made from the public verdict and the trace alone; nothing of the hidden tests is in reach of ``feedback_text``.
"""

import re

from sandbox.records import Execution, OperatorCall, Run, Verdict
from workflow.outcome import Outcome
from workflow.program import Refusal

FAILURES_SHOWN = 3
"""Failed public tests that are quoted."""
ENDS = {
    Outcome.CRASHED: "The workflow crashed",
    Outcome.TIMED_OUT: "The workflow ran out of time",
    Outcome.BUDGET_EXCEEDED: "The workflow used up its budget",
}


def is_settled(runs: tuple[Run, ...]) -> bool:
    """True where every run answered and passed all public tests there are: there is nothing left to say."""
    return bool(runs) and all(
        run.execution.outcome is Outcome.ANSWERED and (run.public is None or run.public.outcome is Outcome.PASSED) for run in runs
    )


def feedback_text(number: int, rounds: int, refusal: Refusal | None, run: Run | None, reply_characters: int) -> str:
    """The turn that follows round ``number`` (from 1) of ``rounds``.

    Args:
        refusal: why there is no workflow; else ``run`` is its first execution.
        reply_characters: length to which the reply of each operator call is cut; 0: replies are not shown.
    """
    if run is None:
        assert refusal is not None
        return f"Round {number} of {rounds}: no workflow ran. {refusal.message} Write the next workflow."
    lines = [f"Round {number} of {rounds}: {_ending(run.execution, run.public)}"]
    if run.public is not None:
        lines += [failure for failure in run.public.failures if failure][:FAILURES_SHOWN]
    if run.execution.trace:
        lines.append("Calls: " + _calls(run.execution, reply_characters))
    return "\n".join([*lines, "Write the next workflow."])


def renumber_feedback(text: str, number: int, rounds: int) -> str:
    """Feedback on a round of one conversation as it would read on round ``number`` of ``rounds`` of another."""
    return re.sub(r"\ARound \d+ of \d+:", f"Round {number} of {rounds}:", text)


def feedback_corpus() -> list[str]:
    """Typical feedback, for a tokenizer that is made on the spot."""
    endings = [f"{passed} of {of} public tests passed." for of in range(1, 4) for passed in range(of + 1)]
    endings += [f"{end}." for end in ENDS.values()] + ["The workflow answered; there are no public tests."]
    calls = ["generate", "test", "review", "revise", "ensemble"]
    return [
        f"Round {number} of {rounds}: {ending}\nCalls: {', '.join(calls[: number + 1])} ({number} worker calls)\nWrite the next workflow."
        for rounds in range(2, 6)
        for number in range(1, rounds)
        for ending in endings
    ]


def _ending(execution: Execution, public: Verdict | None) -> str:
    if execution.outcome is not Outcome.ANSWERED:
        return f"{ENDS[execution.outcome]}{f': {execution.error}' if execution.error else ''}."
    if public is None:
        return "The workflow answered; there are no public tests."
    return f"{sum(public.passed)} of {len(public.passed)} public tests passed."


def _calls(execution: Execution, reply_characters: int) -> str:
    shown = [_call(call, reply_characters) for call in execution.trace]
    return f"{', '.join(shown)} ({execution.worker_calls} worker calls)"


def _call(call: OperatorCall, reply_characters: int) -> str:
    if call.error:
        return f"{call.operator} failed: {call.error[: max(reply_characters, 80)]}"
    return f"{call.operator} -> {call.reply[:reply_characters]}" if reply_characters else call.operator
