"""The nano problems as a task set."""

from workflow.nano.problems import Split, nano_problem
from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks.task_set import TaskSet


class NanoSet:
    """Makes as many problems of each part as the settings ask for."""

    def check(self, settings: TaskSettings) -> str:
        if settings.path is None:
            return ""
        remedy = "set tasks.name to the set that the file holds, or to jsonl"
        return f"tasks.path={settings.path!r} has no meaning for tasks.name='nano': {remedy}."

    def __call__(self, settings: TaskSettings, /) -> TaskSet:
        def part(split: Split, size: int) -> tuple[Problem, ...]:
            return tuple(nano_problem(settings.seed, split, index) for index in range(size))

        return TaskSet(part("train", settings.train_size), part("validation", settings.validation_size), part("test", settings.test_size))


NANO = NanoSet()
