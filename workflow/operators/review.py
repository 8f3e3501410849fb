"""Judging a solution without running it, and repairing it."""

import re
from typing import TypedDict

from workflow.operators.operator import Operator, section
from workflow.text import cut_thoughts

_APPROVES = r"approved?|accept(?:ed)?|correct|valid|pass(?:es|ed)?"
_VERDICT = re.compile(
    r"(?:\bverdict\b(?:\sis\b)?|\u7ed3\u8bba)\W{0,9}(?:boxed\{)?"
    r"(?:(?:the|this|your)\s(?:(?:given|provided|proposed)\s)?(?:solution|code|answer)\sis\s)?"
    rf"(not\s(?:approved?|accepted|correct|valid)|{_APPROVES}|rejected?|incorrect|invalid|wrong|fail(?:s|ed)?)\b"
    r"(?!\s(?:after\s(?:the\s|these\s)?(?:fix|change|correction|revision)|once|if|provided|pending|subject\sto)[\w\s])[*_`.:;,\s}-]*",
    re.IGNORECASE,
)
_FIRST_LINE = re.compile(
    r"\A[\s*_`#>]{0,20}(approved|rejected)\b[*_`]{0,3}(?:[.:;!,]|\s?[\u2014\u2013]|\s-\s|\s{0,9}$)[*_`\s]*", re.IGNORECASE | re.MULTILINE
)
_LEADS = re.compile(r"(?:(?:my|the|final|overall)\s?){0,2}", re.IGNORECASE)
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
    """The verdict in a reply and the text around it as feedback. Thoughts are not read.

    The last verdict at the beginning of a line counts, else the last one: text after a verdict may speak of another.
    """
    reply = cut_thoughts(reply)
    pattern = _VERDICT if _VERDICT.search(reply) else _FIRST_LINE
    verdicts = list(pattern.finditer(reply))
    leading = [verdict for verdict in verdicts if _leads(reply, verdict.start())] or verdicts
    approved = bool(leading) and re.fullmatch(_APPROVES, leading[-1][1], re.IGNORECASE) is not None
    *before, rest = pattern.split(reply)[::2]  # its one group is every second part
    return {"approved": approved, "feedback": "\n".join([*map(_strip_marks, before), rest]).strip()}


def _leads(text: str, start: int) -> bool:
    """True where nothing but marks and "the final" stands before this place on its line."""
    begin = max(text.rfind("\n", 0, start) + 1, start - 40)
    return _LEADS.fullmatch(text[begin:start].strip(" \t*_#`>-")) is not None


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
