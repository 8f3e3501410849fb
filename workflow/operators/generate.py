"""Writing a solution from the problem alone, and asking freely."""

from workflow.code import extract_code
from workflow.operators.operator import Operator, section
from workflow.problem import Problem, Verifier

FORMS: dict[Verifier, str] = {
    "function": "Answer with the complete function in one ```python code block.",
    "unittest": "Answer with the complete function and its imports in one ```python code block.",
    "stdio": "Answer with a complete program that reads standard input and writes standard output, in one ```python code block.",
    "number": "Work it out step by step and end with a line of `####` and the number alone.",
}
"""What a worker is told about the form of a solution."""


def read_solution(reply: str, problem: Problem) -> str:
    """The solution in a worker's reply: its code, or for numeric answers all of it."""
    return reply.strip() if problem.verifier == "number" else extract_code(reply, problem.entry_point)


class Generate(Operator):
    """Writes a solution to the problem. ``instruction`` may add a hint, a plan or a style. Returns code, or for
    numeric questions a worked answer.
    """

    name = "generate"
    system = "You are an expert programmer. You solve programming problems with correct, complete Python code."
    prompt = """<problem>
{problem}
</problem>
{entry_point}{instruction}Solve the problem. {form}"""

    async def __call__(self, problem: str, instruction: str = "") -> str:
        entry_point = self.context.problem.entry_point
        verifier = self.context.problem.verifier
        reply = await self._ask(
            problem=problem,
            entry_point=section("entry_point", entry_point),
            instruction=section("instruction", instruction),
            form=FORMS[verifier],
        )
        return read_solution(reply, self.context.problem)


class Custom(Operator):
    """Does what ``instruction`` says with ``input``: plan, explain, compare, merge. Returns the reply as it is."""

    name = "custom"
    system = "You are a capable assistant. You follow the instruction to the letter, using the input you are given."
    prompt = """<input>
{input}
</input>
<instruction>
{instruction}
</instruction>"""

    async def __call__(self, input: str, instruction: str) -> str:
        return await self._ask(input=input, instruction=instruction)
