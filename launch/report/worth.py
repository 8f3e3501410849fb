"""What each operator is worth: the reward that workflows lose without a call of it, over all counterfactual runs of a training run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.run_data import Row
from trainer.metrics.edits import EDITED, WORTH


@dataclass(frozen=True)
class Worth:
    """One operator's row, as texts."""

    operator: str
    difference: str
    interval: str
    """95 %, normal, with steps as the clusters (edits of a step meet one policy); empty with fewer than two steps."""
    edits: int


def worth_table(rows: Sequence[Row]) -> list[Worth]:
    """Operators from the most to the least worth; empty where the steps have no counterfactual runs.

    Args:
        rows: of metrics.jsonl, one a step.
    """
    names = dict.fromkeys(name.removeprefix(WORTH) for row in rows for name in row if name.startswith(WORTH))
    found = {name: _estimate(rows, name) for name in names}
    return [
        Worth(name, f"{mean:+.3f}", f"{mean - half:+.3f} to {mean + half:+.3f}" if half is not None else "", edits)
        for name, (mean, half, edits) in sorted(found.items(), key=lambda one: -one[1][0])
    ]


def _estimate(rows: Sequence[Row], name: str) -> tuple[float, float | None, int]:
    """Mean over edits, half of its interval (of a ratio of sums over steps), number of edits."""
    steps = [(float(row[f"{WORTH}{name}"]), int(row[f"{EDITED}{name}"])) for row in rows if f"{WORTH}{name}" in row]
    edits = sum(count for _, count in steps)
    mean = sum(value * count for value, count in steps) / edits
    if len(steps) < 2:
        return mean, None, edits
    spread = sum((count * (value - mean)) ** 2 for value, count in steps) * len(steps) / (len(steps) - 1)
    return mean, 1.96 * math.sqrt(spread) / edits, edits
