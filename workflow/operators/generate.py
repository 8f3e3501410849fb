"""Writing a solution from the problem alone, and asking freely."""

from workflow.operators.operator import Operator, section


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
        reply = await self._ask(
            problem=problem,
            entry_point=section("entry_point", entry_point),
            instruction=section("instruction", instruction),
            form=self.verifier.form,
        )
        return self.verifier.read_solution(reply, self.context.problem)


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
