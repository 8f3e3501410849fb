"""What a source of problems is, and what it gives."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from workflow.problem import Problem
from workflow.settings import TaskSettings


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Problems in three parts that share none."""

    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]
    test: tuple[Problem, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those of all parts."""
        return (*self.train, *self.validation, *self.test)

    def describe(self) -> str:
        """Sizes in words."""
        return f"{len(self.train)} train, {len(self.validation)} validation, {len(self.test)} test problems"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Problems that are yet to be split."""

    problems: tuple[Problem, ...]
    """In the order of the file."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why a row is not among them, by its id."""


class TaskSource(Protocol):
    """Makes problems: a function, or an object with a method ``check`` beside.

    ``check(settings) -> str`` says why the settings cannot be loaded, as far as that shows without loading: it is asked before a run.
    """

    def __call__(self, settings: TaskSettings, /) -> TaskSet | Loaded | Iterable[Problem]:
        """The three parts, of the sizes in the settings, or all problems, which are then split as ``tasks.splits`` says.

        Raises:
            ValueError: they cannot be made; one sentence with the remedy.
        """
        ...


def check_file(settings: TaskSettings) -> str:
    """Why ``tasks.path`` cannot be read as a file; empty where it can."""
    if settings.path is None:
        return f"tasks.name={settings.name!r} needs the file to read: set tasks.path."
    return "" if settings.file.is_file() else f"tasks.path={settings.path!r} is not a file: give the path of the task file."
