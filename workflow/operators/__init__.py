"""The operators that a workflow may call on ``self``. One of your own: ``@OPERATORS.register("name")`` above its class."""

from keyword import iskeyword

from workflow.operators.answer import Answer, Format
from workflow.operators.ensemble import Ensemble
from workflow.operators.generate import Custom, Generate
from workflow.operators.operator import CostClass, Operator, operator_problem
from workflow.operators.program import Program
from workflow.operators.review import Review, Revise
from workflow.operators.test import Test
from workflow.registry import Registry

__all__ = ["OPERATORS", "CostClass", "Operator", "catalogue"]


class OperatorRegistry(Registry[type[Operator]]):
    """Registers an operator once it has been seen that the catalogue can show it and the host can call it."""

    def add(self, name: str, thing: type[Operator] | str) -> None:
        thing = self._resolve(thing) if isinstance(thing, str) else thing
        problem = "" if name.isidentifier() and not iskeyword(name) and name[0] != "_" else "its name is no name of a method"
        problem = problem or operator_problem(thing)
        if not problem and (others := [key for key, other in self.items() if other.system == thing.system and key != name]):
            problem = f"its system message is that of {others[0]}, and no two operators share one"
        if problem:
            raise ValueError(f"The operator {name} cannot be registered: {problem}.")
        super().add(name, thing)
        thing.name = name


OPERATORS = OperatorRegistry("operator")
"""Operator classes by name, in the order of the catalogue."""
for _operator in (Generate, Custom, Test, Review, Revise, Ensemble, Answer, Program, Format):
    OPERATORS.add(_operator.name, _operator)


def catalogue(*, is_code: bool | None = None) -> str:
    """The operators as the policy and the teacher read them: call, result, meaning, cost.

    Args:
        is_code: whether answers are code; operators that are of no use for such answers are left out. None: all are shown.
    """
    return "\n".join(operator.describe() for operator in OPERATORS.values() if is_code is None or operator.for_code in (None, is_code))
