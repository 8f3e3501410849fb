"""AFlow's operators by our own ones: the calls and results of its published template, with our prompts.

Names, parameters and result keys as in AFlow (Zhang et al. 2024, arXiv 2410.10762, and its repository); ``mode`` and the like are
accepted and ignored. Each class states what of its behaviour differs.
"""

import random
from collections import Counter
from typing import Any, TypedDict

from workflow.operators.answer import Answer, Format, read_answer
from workflow.operators.ensemble import LETTERS, Ensemble, read_choice
from workflow.operators.generate import Generate
from workflow.operators.operator import Operator
from workflow.operators.program import Program, ProgramReport
from workflow.operators.review import Review, Revise
from workflow.operators.test import Test


class Response(TypedDict):
    """``{"response"}``."""

    response: str


class Solved(TypedDict):
    """``{"solution"}``."""

    solution: str


class AFlowCustom(Operator):
    """Asks with the instruction followed by the input."""

    name = "Custom"
    system = "You are a helpful assistant. You do what you are told with the text you are given."
    prompt = "{instruction}{input}"

    async def __call__(self, input: str, instruction: str = "", mode: str = "") -> Response:
        return {"response": await self._ask(input=input, instruction=instruction)}


class CustomCodeGenerate(Operator):
    """Writes code for the entry point; the reply's code block is the response."""

    name = "CustomCodeGenerate"
    system = Generate.system
    prompt = "{instruction}{problem}\n\n{form} It defines `{entry_point}`."

    async def __call__(self, problem: str, entry_point: str, instruction: str = "") -> Response:
        reply = await self._ask(instruction=instruction, problem=problem, form=self.verifier.form, entry_point=entry_point)
        return {"response": self.verifier.read_solution(reply, self.context.problem)}


class ScEnsemble(Operator):
    """Self-consistency: one comparison of lettered candidates."""

    name = "ScEnsemble"
    system = Ensemble.system
    prompt = Ensemble.prompt

    async def __call__(self, solutions: list[str], problem: str = "") -> Response:
        return {"response": await Ensemble(self.context)(**Ensemble.bind([problem, solutions[: len(LETTERS)]], {}))}


class MdEnsemble(Operator):
    """Votes on shuffled candidates; the majority wins, the first of equally frequent ones."""

    name = "MdEnsemble"
    system = Ensemble.system
    prompt = Ensemble.prompt

    async def __call__(self, solutions: list[str], problem: str = "", mode: str = "", vote_count: int = 5) -> Solved:
        if not 1 <= len(solutions) <= len(LETTERS):
            raise TypeError(f"MdEnsemble: solutions must hold 1 to {len(LETTERS)} strings, not {len(solutions)}.")
        votes: Counter[int] = Counter()
        for vote in range(vote_count):
            order = random.Random(vote).sample(range(len(solutions)), len(solutions))
            shown = (f'<candidate letter="{LETTERS[place]}">\n{solutions[index]}\n</candidate>' for place, index in enumerate(order))
            choice = read_choice(await self._ask(problem=problem, candidates="\n".join(shown)), len(solutions))
            if choice is not None:
                votes[order[choice]] += 1
        return {"solution": solutions[votes.most_common(1)[0][0] if votes else 0]}


class AFlowTest(Operator):
    """Runs the public tests; on failure reflects and rewrites, up to ``test_loop`` times, and tests a last time."""

    name = "Test"
    system = Test.system
    prompt = Test.prompt

    async def __call__(self, problem: str, solution: str, entry_point: str = "", test_loop: int = 3) -> dict[str, Any]:
        report = await Test(self.context)(problem, solution)
        for _ in range(test_loop):
            if report["passed"]:
                break
            solution = await Revise(self.context)(problem, solution, report["feedback"])
            report = await Test(self.context)(problem, solution)
        return {"result": report["passed"], "solution": solution}


class AFlowReview(Operator):
    """``{"review_result", "feedback"}``."""

    name = "Review"
    system = Review.system
    prompt = Review.prompt

    async def __call__(self, problem: str, solution: str, mode: str = "") -> dict[str, Any]:
        report = await Review(self.context)(problem, solution)
        return {"review_result": report["approved"], "feedback": report["feedback"]}


class AFlowRevise(Operator):
    """``{"solution"}``."""

    name = "Revise"
    system = Revise.system
    prompt = Revise.prompt

    async def __call__(self, problem: str, solution: str, feedback: str, mode: str = "") -> Solved:
        return {"solution": await Revise(self.context)(problem, solution, feedback)}


class AFlowFormat(Operator):
    """The short final answer."""

    name = "Format"
    system = Format.system
    prompt = Format.prompt

    async def __call__(self, problem: str, solution: str, mode: str = "") -> Solved:
        return {"solution": await Format(self.context)(problem, solution)}


class AnswerGenerate(Operator):
    """``{"thought", "answer"}``: all of the reply and the answer in it."""

    name = "AnswerGenerate"
    system = Answer.system
    prompt = Answer.prompt

    async def __call__(self, input: str, mode: str = "") -> dict[str, Any]:
        reply = await self._ask(problem=input)
        return {"thought": reply, "answer": read_answer(reply)}


class Programmer(Operator):
    """Writes ``solve()``, runs it in the box, up to 3 tries."""

    name = "Programmer"
    system = Program.system
    prompt = Program.prompt

    async def __call__(self, problem: str, analysis: str = "None") -> ProgramReport:
        return await Program(self.context)(problem, "" if analysis == "None" else analysis)


AFLOW_OPERATORS: dict[str, type[Operator]] = {
    operator.name: operator
    for operator in (
        *(AFlowCustom, CustomCodeGenerate, ScEnsemble, MdEnsemble, AFlowTest),
        *(AFlowReview, AFlowRevise, AFlowFormat, AnswerGenerate, Programmer),
    )
}
"""By the name that a workflow constructs them with: ``operator.ScEnsemble(self.llm)``."""
