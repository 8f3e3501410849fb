"""Task sets: where problems come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workflow.problem import Problem
from workflow.registry import Registry
from workflow.settings import TaskSettings
from workflow.tasks.aflow import split_as_aflow
from workflow.tasks.files import read_jsonl, split_file_set
from workflow.tasks.overlap import refuse_overlap, without_repeats
from workflow.tasks.sources import SOURCES, load_source


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Problems in three parts that share none."""

    name: str
    """As in the setting ``tasks.name``."""
    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]
    test: tuple[Problem, ...]

    def describe(self) -> str:
        """Sizes in words."""
        return f"{len(self.train)} train, {len(self.validation)} validation, {len(self.test)} test problems"


TASKS: Registry[Callable[[TaskSettings], TaskSet]] = Registry("tasks.name")
"""Task sets that make their three parts themselves, by name."""


def load_tasks(settings: TaskSettings) -> TaskSet:
    """The task set that the settings name; loaded once per process.

    Raises:
        ValueError: a path that is missing where one is needed, does not exist, or holds something else; or training and held-out
            problems overlap, by id or by text.
    """
    return _load_tasks(settings.model_dump_json())


@lru_cache(maxsize=4)
def _load_tasks(settings_json: str) -> TaskSet:
    settings = TaskSettings.model_validate_json(settings_json)
    if settings.name not in (*SOURCES, "jsonl"):
        return TASKS.find(settings.name)(settings)
    split = split_file_set if settings.splits == "seeded" else split_as_aflow
    train, validation, test = split(
        load_problems(settings),
        train_size=settings.train_size,
        validation_size=settings.validation_size,
        test_size=settings.test_size,
        seed=settings.seed,
    )
    validation = without_repeats(validation, test)
    train = without_repeats(train, (*validation, *test))
    refuse_overlap(train, validation, test, place=settings.path or settings.name)
    return TaskSet(settings.name, train, validation, test)


def load_problems(settings: TaskSettings) -> Sequence[Problem]:
    """Every problem of a set, of a file in its order. Raises ValueError as ``load_tasks`` does."""
    if settings.name in SOURCES:
        return load_source(settings.name, settings.path, settings.libraries).problems
    if settings.name != "jsonl":
        tasks = load_tasks(settings)
        return (*tasks.train, *tasks.validation, *tasks.test)
    if settings.path is None:
        raise ValueError("tasks.name = 'jsonl' needs tasks.path: the path of a file with one problem a line.")
    return read_jsonl(Path(settings.path))
