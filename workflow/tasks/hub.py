"""Any set of the hub, by named columns: ``tasks.name=hub tasks.path=owner/set tasks.hub.query=question tasks.hub.answer=answer``.

``tasks.path`` may also be a folder in the hub's form, or a JSONL file. A row in which a named column is empty is left out.
"""

import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from workflow.problem import Problem
from workflow.registry import nearest
from workflow.settings import HubSettings, TaskSettings
from workflow.tasks.files import read_rows, split_file_set
from workflow.tasks.left_out import LeftOut
from workflow.tasks.task_set import Loaded, TaskSet
from workflow.verifiers import VERIFIERS, find_verifier

_HUB_ID = re.compile(r"(?:[\w.-]+/)?[\w.-]+")


class HubSet:
    """Rows with a column for each part of a problem."""

    def check(self, settings: TaskSettings) -> str:
        path, hub = settings.path, settings.hub
        if path is None:
            return "tasks.name='hub' needs the set to load: set tasks.path to a name like owner/set, a folder or a JSONL file."
        if not settings.file.exists() and not _HUB_ID.fullmatch(path):
            return f"tasks.path={path!r} does not exist: give a name of the hub like owner/set, a folder or a JSONL file."
        if not hub.query or not (hub.answer or hub.tests):
            return "tasks.name='hub' needs to know its columns: set tasks.hub.query, and tasks.hub.answer or tasks.hub.tests."
        if fault := VERIFIERS.problem(hub.verifier):
            return f"tasks.hub.verifier: {fault}"
        verifier = find_verifier(hub.verifier)
        if verifier.is_code and not hub.tests:
            return f"tasks.hub.verifier={hub.verifier} runs tests: set tasks.hub.tests to the column that holds them."
        if "{entry_point}" in verifier.answer and not hub.entry_point:
            return f"tasks.hub.verifier={hub.verifier} calls a function: set tasks.hub.entry_point to the column with its name."
        if hub.validation_split and not hub.test_split:
            return f"tasks.hub.validation_split={hub.validation_split!r} without tasks.hub.test_split: set both, or the latter alone."
        if settings.file.is_file() and hub.test_split:
            return f"tasks.hub.test_split={hub.test_split!r} means nothing for the file tasks.path={path!r}: give a folder with this split."
        return ""

    def __call__(self, settings: TaskSettings, /) -> TaskSet | Loaded:
        hub, train = settings.hub, _problems(settings, settings.hub.split)
        if not hub.test_split:
            return train

        def drawn(split: str, size: int) -> tuple[Problem, ...]:
            found = _problems(settings, split).problems
            return tuple(random.Random(settings.seed).sample(found, min(size, len(found))))

        cut = 0 if hub.validation_split else settings.validation_size
        rest, validation, _ = split_file_set(
            train.problems, train_size=settings.train_size, validation_size=cut, test_size=0, seed=settings.seed
        )
        if hub.validation_split:
            validation = drawn(hub.validation_split, settings.validation_size)
        return TaskSet(rest, validation, drawn(hub.test_split, settings.test_size))


def _problems(settings: TaskSettings, split: str) -> Loaded:
    hub, place = settings.hub, str(settings.path)
    problems: list[Problem] = []
    left_out: dict[str, str] = {}
    for number, row in _rows(settings, split):
        _check_columns(hub, row, place)
        source = Path(place).name if settings.file.exists() else place
        name = f"{source}/{split}/{number}"
        try:
            problems.append(_problem(name, row, hub, source))
        except LeftOut as reason:
            left_out[name] = str(reason)
    return Loaded(tuple(problems), left_out)


def _rows(settings: TaskSettings, split: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    if settings.file.is_file():
        return read_rows(settings.file)
    path = str(settings.file) if settings.file.exists() else str(settings.path)
    return enumerate(fetch_rows(path, settings.hub.config or None, split, "set tasks.path to a folder or a JSONL file with its rows"))


def fetch_rows(path: str, config: str | None, split: str, remedy: str) -> Iterable[Mapping[str, Any]]:
    """The rows of a split, from the hub or from a folder in its form. Raises ValueError with the remedy where they do not come."""
    try:
        from datasets import load_dataset

        return load_dataset(path, config, split=split)  # pyright: ignore[reportReturnType]
    except Exception as error:  # the library raises many kinds: offline, proxies, hub errors, missing package
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ValueError(f"The split {split!r} of {path!r} could not be loaded ({reason}): check its name, or {remedy}.") from None


def _check_columns(hub: HubSettings, row: Mapping[str, Any], place: str) -> None:
    for part in HubSettings.COLUMNS:
        column = getattr(hub, part)
        if column and column not in row:
            near = nearest(column, row)
            hint = f"; the nearest is {near}" if near else ""
            raise ValueError(f"tasks.hub.{part}={column} is no column of {place}{hint}: it has {', '.join(row)}.")


def _problem(name: str, row: Mapping[str, Any], hub: HubSettings, source: str) -> Problem:
    """One row; raises LeftOut where a column that it needs is empty."""

    def texts(column: str) -> tuple[str, ...]:
        value = row[column] if column else None
        return tuple(map(str, value)) if isinstance(value, list | tuple) else () if value is None or value == "" else (str(value),)

    def text(column: str) -> str:
        return "\n".join(texts(column))

    answer = text(hub.answer)
    if hub.answer_pattern and (found := re.search(hub.answer_pattern, answer)):
        answer = (found[1] if found.re.groups else found[0]).strip()
    elif hub.answer_pattern:
        raise LeftOut(f"tasks.hub.answer_pattern is not found in its {hub.answer}")
    tests = texts(hub.tests) if hub.tests else (answer,) if answer else ()
    empty = [column for column, value in ((hub.query, text(hub.query)), (hub.tests or hub.answer, tests)) if not value]
    if empty:
        raise LeftOut(f"its {empty[0]} is empty")
    return Problem(
        id=name,
        query=text(hub.query),
        entry_point=text(hub.entry_point),
        public_tests=texts(hub.public_tests),
        hidden_tests=tests,
        test_setup=text(hub.test_setup),
        reference=answer or None,
        verifier=hub.verifier,
        source=source,
    )
