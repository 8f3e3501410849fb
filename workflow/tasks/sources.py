"""The published task sets: where their rows come from and how a row becomes a Problem.

A row that cannot be judged (no hidden test left once the public ones are taken out, no function to call) is left out with
its reason, never guessed at.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow.problem import Problem
from workflow.tasks import bigcodebench, gsm8k, humaneval, mbpp
from workflow.tasks.files import read_rows
from workflow.tasks.left_out import LeftOut


@dataclass(frozen=True, slots=True)
class Source:
    """One published set."""

    to_problem: Callable[[Mapping[str, Any]], Problem]
    """Raises KeyError, SyntaxError, TypeError or ValueError where the row is not of this set, LeftOut where it is and cannot be judged."""
    hub_id: str
    """Name at its public home, for the ``datasets`` library."""
    hub_config: str | None
    hub_splits: tuple[str, ...]
    file: str
    """What its original file is called, for messages."""


SOURCES: dict[str, Source] = {
    "humaneval": Source(humaneval.to_problem, "openai/openai_humaneval", None, ("test",), "HumanEval.jsonl.gz"),
    "mbpp": Source(mbpp.to_problem, "google-research-datasets/mbpp", "full", ("train", "test", "validation", "prompt"), "mbpp.jsonl"),
    "mbpp_sanitized": Source(
        mbpp.to_problem, "google-research-datasets/mbpp", "sanitized", ("train", "test", "validation", "prompt"), "sanitized-mbpp.json"
    ),
    "bigcodebench": Source(bigcodebench.to_complete_problem, "bigcode/bigcodebench", None, ("v0.1.0_hf",), "bigcodebench.jsonl"),
    "bigcodebench_instruct": Source(bigcodebench.to_instruct_problem, "bigcode/bigcodebench", None, ("v0.1.0_hf",), "bigcodebench.jsonl"),
    "gsm8k": Source(gsm8k.to_problem, "openai/gsm8k", "main", ("test", "train"), "test.jsonl"),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A published set as it can be used."""

    problems: tuple[Problem, ...]
    """In the order of the file."""
    left_out: Mapping[str, str]
    """Why a row is not among them, by its id."""


def load_source(name: str, path: str | None, libraries: Sequence[str] = ()) -> Loaded:
    """A published set.

    Args:
        path: its original file, plain or .gz; None: the ``datasets`` library fetches it.
        libraries: packages beyond the standard library that its problems may need.

    Raises:
        ValueError: the file cannot be read as this set, or the public home cannot be reached.
    """
    source = SOURCES[name]
    rows = enumerate(_hub_rows(source), start=1) if path is None else _file_rows(Path(path))
    problems: list[Problem] = []
    left_out: dict[str, str] = {}
    for number, row in rows:
        try:
            problems.append(source.to_problem({"libraries": libraries, **row}))
        except LeftOut as reason:
            left_out[str(row.get("task_id", number))] = str(reason)
        except (KeyError, SyntaxError, TypeError, ValueError, StopIteration) as error:
            fault = f"no field {error}" if isinstance(error, KeyError) else str(error)
            place = source.hub_id if path is None else path
            raise ValueError(f"{place}, line {number} is no problem of {name} ({fault}): use the original file, {source.file}.") from None
    return Loaded(tuple(problems), left_out)


def _file_rows(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    split = "train" if "train" in path.name else "test"
    return ((number, {"split": split, "row": number - 1, **row}) for number, row in read_rows(path))


def _hub_rows(source: Source) -> list[dict[str, Any]]:
    try:
        from datasets import load_dataset

        return [
            {"split": split, "row": number, **dict(row)}
            for split in source.hub_splits
            for number, row in enumerate(load_dataset(source.hub_id, source.hub_config, split=split))
        ]
    except Exception as error:  # the library raises many kinds: offline, proxies, hub errors, missing package
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{source.hub_id!r} could not be fetched from its public home ({reason}): download {source.file} once and set tasks.path to it."
        ) from None
