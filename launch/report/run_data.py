"""What the report needs of a run folder, read leniently: a run that was stopped early has a report too."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, Any]
LATE_SHARE = 0.25
"""The last part of the GRPO steps from which the example workflows are taken."""


@dataclass
class Shape:
    """One workflow topology (fingerprint) among the trained policy's episodes on one kind of problem."""

    text: str
    """A completion that holds it."""
    seen: int = 0
    passed: int = 0
    runs: int = 0
    calls: float = 0.0
    levels: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True)
class RunData:
    """A run folder in memory; what is not there is empty."""

    path: Path
    config: Row
    sft: list[Row]
    """Metrics rows of SFT steps."""
    grpo: list[Row]
    results: Row
    alarms: list[Row]
    """Alarms that began or ended, in order: step and sentence."""
    traces: Counter[str]
    """Outcomes of the teacher's traces."""
    shapes: dict[tuple[str, bool], list[Shape]]
    """(difficulty band, has examples) -> topologies of the trained policy, most frequent first."""
    shapes_of: str
    """Whose workflows they are, in words."""

    @property
    def rows(self) -> list[Row]:
        """Rows of the final table that have figures."""
        return [row for row in self.results.get("rows", []) if "reward" in row]

    def row(self, name: str) -> Row | None:
        """The row of the final table of that name."""
        return next((row for row in self.rows if row["name"] == name), None)

    def setting(self, dotted: str, default: Any = None) -> Any:
        """A setting of the run by its dotted name."""
        return setting_of(self.config, dotted, default)


def setting_of(config: Row, dotted: str, default: Any = None) -> Any:
    """A setting by its dotted name."""
    value: Any = config
    for part in dotted.split("."):
        if not isinstance(value, dict) or part not in value:
            return default
        value = value[part]
    return value


def read_run(path: Path) -> RunData:
    """Reads a run folder.

    Raises:
        ValueError: it is none.
    """
    if not (path / "config.yaml").is_file():
        raise ValueError(f"{path} is not a run folder (it has no config.yaml): give a folder that launch.train made.")
    metrics = list(_rows(path / "metrics.jsonl"))
    grpo = sorted((row for row in metrics if row.get("stage") == "grpo"), key=lambda row: row["step"])
    steps = grpo[-1]["step"] + 1 if grpo else 0
    first_late = int(steps * (1 - LATE_SHARE))
    shapes, shapes_of = _shapes(path / "held_out.jsonl", lambda row: row["row"] == "GRPO policy"), "episodes on held-out queries"
    if not shapes:
        shapes = _shapes(path / "episodes.jsonl", lambda row: row["step"] >= first_late)
        shapes_of = f"training episodes from step {first_late + 1} on"
    return RunData(
        path=path,
        config=yaml.safe_load((path / "config.yaml").read_text()),
        sft=sorted((row for row in metrics if row.get("stage") == "sft"), key=lambda row: row["step"]),
        grpo=grpo,
        results=json.loads((path / "results.json").read_text()) if (path / "results.json").is_file() else {},
        alarms=list(_rows(path / "alarms.jsonl")),
        traces=Counter(str(row.get("outcome")) for row in _rows(path / "traces.jsonl")),
        shapes=shapes,
        shapes_of=shapes_of,
    )


def _rows(file: Path) -> Iterator[Row]:
    """Rows of a JSON Lines file, one at a time; half-written ones are left out."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                try:
                    yield json.loads(line)
                except json.JSONDecodeError:
                    continue


def band(level: int | None, levels: list[int]) -> str:
    """``easy``, ``medium`` or ``hard``: thirds of the levels; ``all`` where the tasks have no levels."""
    if level is None or not levels:
        return "all"
    position = sorted(levels).index(level) / len(levels)
    return "easy" if position < 1 / 3 else "medium" if position < 2 / 3 else "hard"


def _shapes(file: Path, wanted: Callable[[Row], bool]) -> dict[tuple[str, bool], list[Shape]]:
    late = [row for row in _rows(file) if wanted(row) and row.get("fingerprint")]
    levels = sorted({row["level"] for row in late if row["level"] is not None})
    found: dict[tuple[str, bool], dict[str, Shape]] = {}
    for row in late:
        cell = found.setdefault((band(row["level"], levels), bool(row["has_examples"])), {})
        shape = cell.setdefault(row["fingerprint"], Shape(row["text"]))
        shape.seen += 1
        if row["level"] is not None:
            shape.levels[row["level"]] += 1
        for run in row["runs"]:
            shape.runs += 1
            shape.passed += run["outcome"] == "passed"
            shape.calls += run["calls"]
    return {cell: sorted(shapes.values(), key=lambda shape: -shape.seen) for cell, shapes in found.items()}
