"""Exact numeric answers: the number that the answer ends on against the expected one."""

from collections.abc import Mapping

from workflow.number import as_number, read_number
from workflow.problem import Problem
from workflow.verifiers.verifier import Verifier


class NumberVerifier(Verifier):
    """The test is the number that the answer must end on, exactly."""

    form = "Work it out step by step and end with a line of `####` and the number alone."
    answer = "the final answer as a text that ends on the number, for example `#### 42`"

    def compare(self, solution: str, test: str) -> str | None:
        expected, found = as_number(test), read_number(solution)
        if expected is None:
            raise ValueError(f"{test!r} is no number: correct the problem's tests")
        if found == expected:
            return None
        return "the answer holds no number" if found is None else "the number is not the right one"

    def controls(self, problem: Problem) -> Mapping[str, str]:
        return {"an empty answer": "", "the constant 0": "0", "a list of numbers": " ".join(map(str, [*range(1000), -98765]))}
