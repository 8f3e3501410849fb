"""Answering by a program that is run (AFlow's Programmer; program-aided language models, Gao et al. 2023)."""

from typing import TypedDict

from workflow.code import extract_code
from workflow.operators.operator import CostClass, Operator, section

TRIES = 3
_MARK = "\x1e"
RUN = f"\n\n_answer = solve()\nif _answer is not None:\n    print({_MARK!r}, _answer, sep='')\n"
"""What the program prints itself, often the same answer, stands before the mark; it counts where ``solve()`` returns nothing."""


class ProgramReport(TypedDict):
    """What ``program`` wrote and what that printed."""

    code: str
    output: str


class Program(Operator):
    """Writes a program that computes the answer, runs it and returns its output; up to 3 tries where it fails.

    ``output`` is what ``solve()`` returned, as text, or printed where it returned nothing; empty where no try ran to its end.
    """

    name = "program"
    system = "You are a Python programmer. You answer questions by writing a function solve() that computes the answer."
    prompt = """<problem>
{problem}
</problem>
{analysis}{failure}Write a function `solve()` without parameters that computes and returns the final answer, with the standard \
library alone. Answer with it in one ```python code block."""
    cost = CostClass.PROGRAM
    for_code = False

    async def __call__(self, problem: str, analysis: str = "") -> ProgramReport:
        code = failure = ""
        for _ in range(TRIES):
            reply = await self._ask(problem=problem, analysis=section("analysis", analysis), failure=failure)
            code = extract_code(reply, "solve")
            done = await self.context.run_program(code + RUN)
            if done.ok:
                return {"code": code, "output": done.output.rpartition(_MARK)[2].strip()}
            failure = section("failed_program", code) + section("error", done.output)
        return {"code": code, "output": ""}
