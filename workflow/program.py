"""The Workflow record: a checked program that the policy wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workflow.outcome import Outcome
from workflow.pickled import restore

Form = Literal["ours", "aflow", "raw"]
"""The language that a workflow is written in: our own, AFlow's published form, or a bare program on the operator channel (audits)."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A statically checked workflow. Made by ``workflow.language.parse`` and, in AFlow's form, by ``workflow.aflow`` only."""

    source: str
    """Python text of ``class Workflow`` as the policy wrote it, but for ``repairs``."""
    fingerprint: str
    """Hash of the normalised AST (names of locals, layout, docstrings removed): equal behaviour, so that siblings may share a run."""
    operators: tuple[str, ...]
    """Names of the operators at each call site, in source order."""
    branches: int
    """``if``/ternary/boolean decisions."""
    loops: int
    """``for``/``while`` loops and comprehensions."""
    depth: int
    """Deepest nesting of branches and loops; 0 for straight-line code."""
    units: int
    """Size in AST units; the single call ``return await self.generate(problem)`` has 3."""
    form: Form = "ours"
    prompts: str = ""
    """Text of the prompt module of a workflow in AFlow's form."""
    skeleton: str = ""
    """Hash of its operators and control flow alone (``workflow.language.skeleton``): equal topology, whatever its texts. The fingerprint
    where none was read, as of AFlow's form."""
    repairs: tuple[str, ...] = ()
    """Harmless habits that were put right in ``source`` (``workflow.language.repair``)."""

    def __post_init__(self) -> None:
        if not self.skeleton:
            object.__setattr__(self, "skeleton", self.fingerprint)

    def __setstate__(self, state: Sequence[Any]) -> None:
        restore(self, state)
        self.__post_init__()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a completion yields no runnable workflow."""

    outcome: Outcome
    """NO_WORKFLOW, SYNTAX_ERROR or FORBIDDEN."""
    message: str
    """A sentence for each construct that is refused, in the order of the source."""
    line: int | None = None
    """Line within the workflow's source, where there is one."""
