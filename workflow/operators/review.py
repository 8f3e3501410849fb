"""Judging a solution without running it, and repairing it."""

import re
from typing import TypedDict

from workflow.operators.operator import Operator, section

_VERDICT = re.compile(r"\bverdict\b\W*(approved?|rejected?|not\s+approved)\b[*_`.:;,\s-]*", re.IGNORECASE)
_DECORATION = re.compile(r"[*_#`>\s]*")


class ReviewReport(TypedDict):
    """What ``review`` found."""

    approved: bool
    feedback: str


class Review(Operator):
    """Reads a solution critically and says whether it is right; ``feedback`` says what to change.

    A reply without a verdict line does not approve, and all of it is the feedback.
    """

    name = "review"
    system = "You are a meticulous code reviewer. You check whether a solution does exactly what its problem asks."
    prompt = """<problem>
{problem}
</problem>
<solution>
{solution}
</solution>
Check the solution against the problem, point by point. Your first line is `Verdict: approved` or `Verdict: rejected`. \
After a rejection, say what is wrong and what belongs there."""

    async def __call__(self, problem: str, solution: str) -> ReviewReport:
        return read_review(await self._ask(problem=problem, solution=solution))


def read_review(reply: str) -> ReviewReport:
    """The verdict in a reply (the last one where there are several) and the text around it as feedback."""
    verdicts = list(_VERDICT.finditer(reply))
    approved = bool(verdicts) and verdicts[-1][1].lower().startswith("approve")
    *before, rest = _VERDICT.split(reply)[::2]  # its one group is every second part
    return {"approved": approved, "feedback": "\n".join([*map(_strip_marks, before), rest]).strip()}


def _strip_marks(text: str) -> str:
    """Without the marks at its end that stood before a verdict; read backwards, since a search for them would try every blank."""
    marks = _DECORATION.match(text[::-1])
    return text[: len(text) - marks.end()] if marks else text


class Revise(Operator):
    """Rewrites a solution according to feedback from a test, a review or another agent. Returns code."""

    name = "revise"
    system = "You are an expert programmer. You repair a solution according to the feedback on it and keep what is right."
    prompt = """<problem>
{problem}
</problem>
{entry_point}<solution>
{solution}
</solution>
<feedback>
{feedback}
</feedback>
Repair the solution. {form}"""

    async def __call__(self, problem: str, solution: str, feedback: str) -> str:
        entry_point = self.context.problem.entry_point
        reply = await self._ask(
            problem=problem,
            entry_point=section("entry_point", entry_point),
            solution=solution,
            feedback=feedback,
            form=self.verifier.form,
        )
        return self.verifier.read_solution(reply, self.context.problem)
