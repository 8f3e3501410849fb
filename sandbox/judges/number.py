"""Exact numeric answers, compared in the trusted parent: the number of the answer against the expected one."""

from collections.abc import Sequence

from workflow.number import as_number, read_number


def examine(answer: str, tests: Sequence[str]) -> list[str | None]:
    """What is wrong with an answer, expected number by expected number; None where it is exactly that number."""
    found = read_number(answer)
    results: list[str | None] = []
    for test in tests:
        expected = as_number(test)
        if expected is None:
            raise ValueError(f"{test!r} is no number: correct the problem's tests.")
        results.append(None if found == expected else "the answer holds no number" if found is None else "the number is not the right one")
    return results
