"""The Workflow record: a checked program that the policy wrote."""

from dataclasses import dataclass
from typing import Literal

from workflow.outcome import Outcome

Form = Literal["ours", "aflow", "raw"]
"""The language that a workflow is written in: our own, AFlow's published form, or a bare program on the operator channel (audits)."""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A statically checked workflow. Made by ``workflow.language.parse`` and, in AFlow's form, by ``workflow.aflow`` only."""

    source: str
    """Python text of ``class Workflow`` as the policy wrote it, but for ``repairs``."""
    fingerprint: str
    """Hash of the normalised AST (names of locals, layout, docstrings removed): equal topology, equal fingerprint."""
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
    repairs: tuple[str, ...] = ()
    """Harmless habits that were put right in ``source`` (``workflow.language.repair``)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a completion yields no runnable workflow."""

    outcome: Outcome
    """NO_WORKFLOW, SYNTAX_ERROR or FORBIDDEN."""
    message: str
    """A sentence for each construct that is refused, in the order of the source."""
    line: int | None = None
    """Line within the workflow's source, where there is one."""
