"""An operator: worker calls that name the most frequent of several answers."""

from workflow.operators import OPERATORS, Operator


@OPERATORS.register("vote")
class Vote(Operator):
    """Names the answer that most of the given ones agree on."""

    system = "You count the votes for each answer and name the one that has most."
    prompt = "<problem>\n{problem}\n</problem>\n<answers>\n{answers}\n</answers>\nWhich answer has most votes? {form}"

    async def __call__(self, problem: str, answers: list[str]) -> str:
        return await self._ask(problem=problem, answers="\n".join(answers), form=self.verifier.form)
