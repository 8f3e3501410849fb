"""What a source of problems is, and what it gives."""

from collections import Counter
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
        """Sizes in words, by benchmark where there are several, and how many problems give feedback."""
        everything = (*self.train, *self.validation, *self.test)
        sources = sorted({problem.source for problem in everything})

        def size(problems: tuple[Problem, ...]) -> str:
            counts = Counter(problem.source for problem in problems)
            by_source = ", ".join(f"{counts[source]} {source}" for source in sources)
            return f"{len(problems)} ({by_source})" if len(sources) > 1 else str(len(problems))

        share = sum(problem.has_examples for problem in everything) / max(len(everything), 1)
        sizes = f"{size(self.train)} train, {size(self.validation)} validation, {size(self.test)} test problems"
        return f"{sizes}, {share:.0%} with public tests"


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
