"""Task sets: where problems come from. One of your own: ``@TASK_SETS.register("name")`` above a function that makes Problems."""

from collections import Counter
from functools import lru_cache

from workflow.problem import Problem
from workflow.registry import Registry
from workflow.settings import TaskSettings
from workflow.tasks.aflow import split_as_aflow
from workflow.tasks.files import JsonlFile, split_file_set
from workflow.tasks.hub import HubSet
from workflow.tasks.overlap import refuse_overlap, without_repeats
from workflow.tasks.sources import PUBLISHED
from workflow.tasks.task_set import Loaded, TaskSet, TaskSource
from workflow.verifiers import VERIFIERS

__all__ = ["TASK_SETS", "Loaded", "TaskSet", "TaskSource", "check_tasks", "load_problems", "load_source", "load_tasks"]

TASK_SETS: Registry[TaskSource] = Registry("tasks.name", {**PUBLISHED, "jsonl": JsonlFile(), "hub": HubSet()})
"""Sources of problems by name."""


def check_tasks(settings: TaskSettings) -> str:
    """Why the set cannot be loaded, as far as that shows without loading it; empty where nothing shows."""
    if problem := TASK_SETS.problem(settings.name):
        return problem
    check = getattr(TASK_SETS.find(settings.name), "check", None)
    return check(settings) if check else ""


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
    found = load_source(settings)
    if isinstance(found, Loaded):
        split = split_file_set if settings.splits == "seeded" else split_as_aflow
        train, validation, test = split(
            found.problems,
            train_size=settings.train_size,
            validation_size=settings.validation_size,
            test_size=settings.test_size,
            seed=settings.seed,
        )
    else:
        train, validation, test = found.train, found.validation, found.test
    place = settings.path or settings.name
    if not train or not test:
        raise ValueError(f"{place} holds no {'test' if train else 'training'} problems: it needs at least one.")
    validation = without_repeats(validation, test)
    train = without_repeats(train, (*validation, *test))
    refuse_overlap(train, validation, test, place=place)
    return TaskSet(train, validation, test)


def load_problems(settings: TaskSettings) -> tuple[Problem, ...]:
    """Every problem of a set, of all its parts. Raises ValueError as ``load_tasks`` does."""
    return load_source(settings).problems


def load_source(settings: TaskSettings) -> TaskSet | Loaded:
    """What the source gives, with problems that can be judged. Raises ValueError as ``load_tasks`` does."""
    if problem := check_tasks(settings):
        raise ValueError(problem)
    found = TASK_SETS.find(settings.name)(settings)
    if not isinstance(found, TaskSet | Loaded):
        found = Loaded(tuple(found))
    _check_problems(found.problems, settings.path or settings.name)
    return found


def _check_problems(problems: tuple[Problem, ...], place: str) -> None:
    """Raises ValueError for the first that is none, cannot be judged, or has the id of another."""
    for problem in problems:
        if not isinstance(problem, Problem):
            raise ValueError(f"{place} gives a {type(problem).__name__} where a workflow.problem.Problem belongs: correct the source.")
        if not problem.hidden_tests:
            raise ValueError(f"{place}: problem {problem.id!r} has no 'hidden_tests', so no answer could be judged: give at least one.")
    if repeated := [name for name, count in Counter(problem.id for problem in problems).items() if count > 1]:
        raise ValueError(f"{place}: the id {repeated[0]!r} appears twice: ids must be unique.")
    for name, problem in {problem.verifier: problem for problem in problems}.items():
        if fault := VERIFIERS.problem(name):
            raise ValueError(f"{place}, problem {problem.id!r}: {fault}")
