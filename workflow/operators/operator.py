"""What every operator is: a name, a prompt, a typed call, a cost class."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, get_args, get_origin, get_type_hints, is_typeddict

from workflow.operators.context import OperatorContext
from workflow.text import cut_thoughts
from workflow.verifiers import find_verifier
from workflow.verifiers.verifier import Verifier
from workflow.worker.interface import Message


class CostClass(StrEnum):
    """What one call of an operator costs, in the words of the catalogue."""

    WORKER_CALL = "one worker call"
    TEST_RUN = "one test run; one worker call more where the problem has no public tests"
    PROGRAM = "one worker call for each program it writes"


class Operator(ABC):
    """One kind of step in a workflow, executed on the trusted side.

    A subclass sets the class attributes, writes a docstring (its first paragraph goes to the catalogue) and types
    ``__call__``: parameters are ``str`` or ``list[str]``, the result is a ``str`` or a TypedDict, which a workflow
    sees as an object with attributes.
    """

    name: ClassVar[str]
    """Name on ``self`` in a workflow; set where the operator is registered."""
    system: ClassVar[str]
    """The exact system message; no two operators share one."""
    prompt: ClassVar[str]
    """Template of the user message; sections are XML tags."""
    cost: ClassVar[CostClass] = CostClass.WORKER_CALL
    for_code: ClassVar[bool | None] = None
    """True where it is of use only where answers are code, False where only for other answers; None for all."""

    def __init__(self, context: OperatorContext) -> None:
        self.context = context

    @property
    def verifier(self) -> Verifier:
        """What judges the run's answer, and says what form a solution has."""
        return find_verifier(self.context.problem.verifier)

    @abstractmethod
    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the operator. Raises BudgetExceeded or WorkerError, as the context does."""

    @classmethod
    def bind(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The call's arguments by name, defaults filled in.

        Raises:
            TypeError: an argument is missing, unknown or of the wrong type; the message is a sentence for the workflow's author.
        """
        names, defaults, types = _parameters(cls)
        bound = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
        if len(args) > len(names) or bound.keys() != types.keys() or not kwargs.keys().isdisjoint(names[: len(args)]):
            try:
                _read_signature(cls)[0].bind(*args, **kwargs)  # says what is wrong
            except TypeError as error:
                raise TypeError(f"{cls.signature()}: {error}.") from None
        for name, value in bound.items():
            if not (types[name] is str and type(value) is str):
                _check(cls, name, value, types[name])
        return bound

    @classmethod
    def signature(cls) -> str:
        """The call as the catalogue shows it, for example ``self.test(problem: str, solution: str)``."""
        return f"self.{cls.name}{_read_signature(cls)[0].replace(return_annotation=inspect.Signature.empty)}"

    @classmethod
    def returns(cls) -> str:
        """The result as the catalogue shows it: ``str``, or the attributes of a report."""
        result = _read_signature(cls)[1]["return"]
        if is_typeddict(result):
            return "report with " + ", ".join(f".{name}: {kind.__name__}" for name, kind in get_type_hints(result).items())
        return result.__name__

    @classmethod
    def describe(cls) -> str:
        """The operator's entry in the catalogue."""
        summary = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
        return f"- await {cls.signature()} -> {cls.returns()}\n    {summary} Costs {cls.cost}."

    async def _ask(self, **sections: str) -> str:
        """One worker call with this operator's system message and its template filled in: the answer, without thoughts between tags."""
        messages: list[Message] = [
            {"role": "system", "content": self.system},
            {"role": "user", "content": self.prompt.format(**sections).strip()},
        ]
        return cut_thoughts(await self.context.ask(messages))


def operator_problem(cls: type[Operator]) -> str:
    """Why a class cannot be an operator; empty where it can."""
    if not (isinstance(cls, type) and issubclass(cls, Operator)) or inspect.isabstract(cls):
        return "it is no class that is derived from Operator and has a __call__"
    if missing := [name for name in ("system", "prompt") if not isinstance(getattr(cls, name, None), str)]:
        return f"it has no {' and no '.join(missing)}"
    if not cls.__doc__:
        return "it has no docstring, which the policy reads"
    try:
        signature, types = _read_signature(cls)
    except (NameError, TypeError) as error:
        return f"the types of its __call__ cannot be read ({error})"
    if "worker" in types:
        return "its __call__ has a parameter worker, and every operator takes worker=, the name of the one to ask"
    result = types.get("return")
    parameters = signature.parameters.values()
    if any(each.kind is not each.POSITIONAL_OR_KEYWORD or types.get(each.name) not in (str, list[str]) for each in parameters):
        return "the parameters of its __call__ must be declared as str or list[str]"
    return "" if result is str or is_typeddict(result) else "the result of its __call__ must be declared as str or as a TypedDict"


def section(tag: str, text: str) -> str:
    """``text`` between XML tags and followed by a newline; nothing where it is blank."""
    return f"<{tag}>\n{text}\n</{tag}>\n" if text.strip() else ""


@cache
def _read_signature(cls: type[Operator]) -> tuple[inspect.Signature, dict[str, Any]]:
    signature = inspect.signature(cls.__call__)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "self"]
    return signature.replace(parameters=parameters), get_type_hints(cls.__call__)


@cache
def _parameters(cls: type[Operator]) -> tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]:
    """Names of a call's parameters in order, their defaults, their types."""
    signature, types = _read_signature(cls)
    assert all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in signature.parameters.values()), cls
    defaults = {
        name: parameter.default for name, parameter in signature.parameters.items() if parameter.default is not inspect.Parameter.empty
    }
    return tuple(signature.parameters), defaults, {name: types[name] for name in signature.parameters}


def _check(cls: type[Operator], name: str, value: Any, wanted: Any) -> None:
    if get_origin(wanted) is not list:
        if not isinstance(value, wanted):
            raise TypeError(f"{cls.signature()}: {name} must be a {_word(wanted)}, not a {_word(type(value))}.")
        return
    (item,) = get_args(wanted)
    if not isinstance(value, list):
        raise TypeError(f"{cls.signature()}: {name} must be a list of {_word(item)}s, not a {_word(type(value))}.")
    for index, entry in enumerate(value):
        if not isinstance(entry, item):
            raise TypeError(f"{cls.signature()}: {name}[{index}] must be a {_word(item)}, not a {_word(type(entry))}.")


def _word(kind: type) -> str:
    return {str: "string", dict: "report or dict", type(None): "None"}.get(kind, kind.__name__)
