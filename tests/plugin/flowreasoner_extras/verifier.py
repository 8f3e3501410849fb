"""A verifier: an answer passes where it is the expected text, whatever its case."""

from workflow.verifiers import VERIFIERS
from workflow.verifiers.verifier import Verifier


@VERIFIERS.register("exact")
class Exact(Verifier):
    """The answer is the expected text, whatever its case."""

    form = "Answer with the name alone."
    answer = "the final answer as a text: the name alone"

    def compare(self, solution: str, test: str) -> str | None:
        return None if solution.casefold() == test.casefold() else f"{solution[:80]!r} is not the right name"
