"""The operators that a workflow may call on ``self``. A new operator is one new class and one entry here."""

from workflow.operators.answer import Answer, Format
from workflow.operators.ensemble import Ensemble
from workflow.operators.generate import Custom, Generate
from workflow.operators.operator import CostClass, Operator
from workflow.operators.program import Program
from workflow.operators.review import Review, Revise
from workflow.operators.test import Test

__all__ = ["OPERATORS", "CostClass", "Operator", "catalogue"]

OPERATORS: dict[str, type[Operator]] = {
    operator.name: operator for operator in (Generate, Custom, Test, Review, Revise, Ensemble, Answer, Program, Format)
}
"""Operator classes by name, in the order of the catalogue."""


def catalogue() -> str:
    """The operators as the policy and the teacher read them: call, result, meaning, cost."""
    return "\n".join(operator.describe() for operator in OPERATORS.values())
