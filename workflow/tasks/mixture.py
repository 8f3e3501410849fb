"""Several sets as one: ``tasks.name=mixture`` with the sets in ``tasks.mixture``, each with its own path, split, sizes and weight."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

from workflow.problem import Problem
from workflow.settings import MixedSet, TaskSettings
from workflow.tasks import check_tasks, load_parts
from workflow.tasks.task_set import TaskSet


class Mixture:
    """The source of ``tasks.name=mixture``."""

    def check(self, settings: TaskSettings) -> str:
        if not settings.mixture:
            return "tasks.name='mixture' needs its sets: name them in tasks.mixture, for example tasks.mixture.humaneval.path=FILE."
        if settings.path is not None:
            return f"tasks.path={settings.path!r} means nothing for a mixture: set the path of a set, such as {_first(settings)}.path."
        if not any(one.train_size != 0 for one in settings.mixture.values()):
            return f"Every set of tasks.mixture has train_size=0: train on at least one, for example {_first(settings)}.train_size=null."
        if not any(one.test_size != 0 for one in settings.mixture.values()):
            return f"Every set of tasks.mixture has test_size=0: hold out problems of one, for example {_first(settings)}.test_size=null."
        return next((_name_entry(fault, name) for name in settings.mixture if (fault := check_tasks(_settings_of(name, settings)))), "")

    def __call__(self, settings: TaskSettings, /) -> TaskSet:
        """The sets, each split by itself, with their problems mixed at random by ``seed``. Raises ValueError as each of them does."""
        parts: dict[str, list[Problem]] = {part.name: [] for part in fields(TaskSet)}
        for name, one in settings.mixture.items():
            with _named(name):
                found = load_parts(_settings_of(name, settings))
            for part, problems in parts.items():
                problems += [replace(problem, weight=problem.weight * one.weight) for problem in getattr(found, part)]
        rng = random.Random(settings.seed)
        for problems in parts.values():
            rng.shuffle(problems)
        return TaskSet(**{part: tuple(problems) for part, problems in parts.items()})


def _first(settings: TaskSettings) -> str:
    return f"tasks.mixture.{next(iter(settings.mixture))}"


def _settings_of(name: str, settings: TaskSettings) -> TaskSettings:
    """Those of one set: its own values, and those of ``tasks`` where it has none."""
    one = settings.mixture[name]
    own = {field: getattr(one, field) for field in MixedSet.model_fields if field in TaskSettings.model_fields}
    given = {field: value for field, value in own.items() if value is not None}
    return settings.model_copy(update={**given, "name": one.name or name, "mixture": {}})


def _name_entry(fault: str, name: str) -> str:
    """A sentence about a set of its own as one about the mixture's set."""
    return fault.replace("tasks.", f"tasks.mixture.{name}.")


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(_name_entry(str(error), name)) from None


MIXTURE = Mixture()
