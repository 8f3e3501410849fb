"""Task sets from files: reading lines, our own JSONL schema, and the seeded split.

Schema of ``jsonl``: one JSON object a line with the fields of ``workflow.problem.Problem``. ``id``, ``query``,
``entry_point`` and ``hidden_tests`` are required, a field that Problem does not have is refused:

    {"id": "sum/1", "query": "Write add(a, b).", "entry_point": "add", "public_tests": ["assert add(1, 2) == 3"],
     "hidden_tests": ["assert candidate(2, 2) == 4"], "reference": "def add(a, b):\\n    return a + b\\n"}
"""

import gzip
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks.task_set import check_file

_FIELDS = {field.name for field in fields(Problem)}
_VALIDATOR = TypeAdapter(Problem)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each non-empty line of a JSONL file, or (position, object) of a JSON list; plain or gzipped.

    Raises:
        ValueError: a line that is not a JSON object.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            if path.name.removesuffix(".gz").endswith(".json"):
                yield from enumerate(json.load(lines), start=1)
                return
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("it is not an object")
                    yield number, row
    except (ValueError, OSError, EOFError) as error:  # JSON and encoding errors are ValueErrors
        raise ValueError(f"{path} cannot be read as JSON lines ({error}): every line must be one JSON object.") from None


class JsonlFile:
    """The source of ``tasks.name=jsonl``."""

    def check(self, settings: TaskSettings) -> str:
        return check_file(settings)

    def __call__(self, settings: TaskSettings, /) -> list[Problem]:
        return read_jsonl(settings.file)


def read_jsonl(path: Path) -> list[Problem]:
    """The problems of a file in our schema.

    Raises:
        ValueError: naming file, line and field of the first fault.
    """
    problems: list[Problem] = []
    for number, row in read_rows(path):
        place = f"{path}, line {number}"
        if unknown := sorted(row.keys() - _FIELDS):
            raise ValueError(f"{place}: unknown field {unknown[0]!r}; a problem has {', '.join(sorted(_FIELDS))}.")
        try:
            source = row.get("source") or path.name.removesuffix(".gz").removesuffix(".jsonl")
            problems.append(_VALIDATOR.validate_python({"public_tests": (), **row, "source": source}))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{place}: field {'.'.join(map(str, first['loc']))!r}: {first['msg']}.") from None
    return problems


def write_jsonl(path: Path, problems: Iterable[Problem]) -> None:
    """Writes problems in our schema, gzipped where the name ends in ``.gz``."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as lines:
        for problem in problems:
            lines.write(json.dumps(asdict(problem), ensure_ascii=False) + "\n")


def split_file_set(
    problems: Sequence[Problem], *, train_size: int, validation_size: int, test_size: int, seed: int
) -> tuple[tuple[Problem, ...], tuple[Problem, ...], tuple[Problem, ...]]:
    """Train, validation and test of a set of fixed size, shuffled by the seed.

    Validation and test get what was asked for, but at most a quarter of the set each; train gets what was
    asked for out of the rest. Where nothing is trained on, all of the set may be held out.

    Raises:
        ValueError: fewer than 4 problems.
    """
    if len(problems) < 4:
        raise ValueError(f"The task set has {len(problems)} problems; train, validation and test need at least 4 together.")
    order = list(problems)
    random.Random(seed).shuffle(order)
    most = len(order) // 4 if train_size else len(order)
    validation = min(validation_size, most)
    test = min(test_size, most, len(order) - validation)
    held_out = validation + test
    return tuple(order[held_out : held_out + train_size]), tuple(order[:validation]), tuple(order[validation:held_out])
