"""What a package of a user's may add in one file: a verifier, an operator, a task set. It is no part of the product."""

from collections.abc import Iterator

from workflow.operators import OPERATORS, Operator
from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks import TASK_SETS
from workflow.verifiers import VERIFIERS
from workflow.verifiers.verifier import Verifier

CAPITALS = {"France": "Paris", "Peru": "Lima", "Kenya": "Nairobi", "Japan": "Tokyo", "Ghana": "Accra", "Cuba": "Havana"}


@VERIFIERS.register("exact")
class Exact(Verifier):
    """The answer is the expected text, whatever its case."""

    form = "Answer with the name alone."
    answer = "the final answer as a text: the name alone"

    def compare(self, solution: str, test: str) -> str | None:
        return None if solution.casefold() == test.casefold() else f"{solution[:80]!r} is not the right name"


@OPERATORS.register("vote")
class Vote(Operator):
    """Names the answer that most of the given ones agree on."""

    system = "You count the votes for each answer and name the one that has most."
    prompt = "<problem>\n{problem}\n</problem>\n<answers>\n{answers}\n</answers>\nWhich answer has most votes? {form}"

    async def __call__(self, problem: str, answers: list[str]) -> str:
        return await self._ask(problem=problem, answers="\n".join(answers), form=self.verifier.form)


@TASK_SETS.register("capitals")
def make_capitals(settings: TaskSettings, /) -> Iterator[Problem]:
    """One problem a country."""
    for country, capital in CAPITALS.items():
        query = f"What is the capital of {country}?"
        yield Problem(f"capitals/{country}", query, "", (), (capital,), reference=capital, verifier="exact", source="capitals")
