"""Verifiers: how answers of each kind are asked for and judged. A problem names its own."""

from collections.abc import Iterable
from functools import cache

from workflow.problem import Problem
from workflow.registry import Registry
from workflow.verifiers.answer_text import ExactMatchVerifier, F1Verifier
from workflow.verifiers.choice import ChoiceVerifier
from workflow.verifiers.code import FunctionVerifier, StdioVerifier, UnittestVerifier
from workflow.verifiers.drop import DropVerifier
from workflow.verifiers.judged import PairwiseVerifier, RubricVerifier
from workflow.verifiers.maths import MathVerifier
from workflow.verifiers.number import NumberVerifier
from workflow.verifiers.verifier import Verifier

VERIFIERS: Registry[type[Verifier]] = Registry(
    "verifier",
    {
        "function": FunctionVerifier,
        "stdio": StdioVerifier,
        "unittest": UnittestVerifier,
        "number": NumberVerifier,
        "math": MathVerifier,
        "choice": ChoiceVerifier,
        "exact_match": ExactMatchVerifier,
        "f1": F1Verifier,
        "drop": DropVerifier,
        "rubric": RubricVerifier,
        "pairwise": PairwiseVerifier,
    },
    is_one=lambda found: isinstance(found, type) and issubclass(found, Verifier),
)
"""Verifier classes by the name that problems give."""


@cache
def find_verifier(name: str) -> Verifier:
    """The verifier of a registered name or of ``module:name``. Raises ValueError where there is none."""
    return VERIFIERS.find(name)()


def find_libraries(problems: Iterable[Problem]) -> set[str]:
    """Packages that the verifiers of these problems need in the box."""
    return {library for name in {problem.verifier for problem in problems} for library in find_verifier(name).libraries}
