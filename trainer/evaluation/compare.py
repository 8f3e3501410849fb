"""Several finished runs as one table: means over their seeds, paired by problem."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trainer.evaluation.rows import BY_PROBLEM, COMPARED, Row
from trainer.evaluation.statistics import difference_of, interval_over_runs
from trainer.settings import EvaluationSettings


def read_results(run_dir: Path) -> list[Row]:
    """The rows of a run's final table that keep each problem's figures.

    Raises:
        ValueError: the run has no final table, or one of an earlier version.
    """
    file = run_dir / "results.json"
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    kept = [row for row in rows if set(BY_PROBLEM) <= set(row.get("by_problem", {}))]
    if not kept:
        why = "was made by an earlier version" if rows else "is still to come"
        raise ValueError(f"{run_dir} cannot be compared with others: its final table {why}: run its stage evaluate.")
    return kept


def rows_over_runs(results: Mapping[str, Sequence[Row]], settings: EvaluationSettings) -> list[Row]:
    """One row for each that all runs have: the mean over runs and over the problems that all of them have, and the difference to the row
    ``evaluation.against``.

    Intervals draw runs and problems anew. The permutation test flips signs by problem of differences averaged over the runs, so it
    speaks of these runs.

    Raises:
        ValueError: the runs share no row or no problem, or have no row of that name.
    """
    tables = [{row["name"]: row for row in rows} for rows in results.values()]
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    if not shared:
        raise ValueError(f"{', '.join(results)} have no row of their final tables in common.")
    if settings.against not in shared:
        raise ValueError(f"trainer.evaluation.against={settings.against!r} is no row that all runs have, which are: {', '.join(shared)}.")
    met = [set(table[name]["by_problem"]["reward"]) for table in tables for name in shared]
    problems = [key for key in tables[0][shared[0]]["by_problem"]["reward"] if all(key in keys for keys in met)]
    if not problems:
        raise ValueError(f"{', '.join(results)} share no held-out problem that every row has: give runs with the same tasks.")

    def values_SP(name: str, measure: str) -> np.ndarray:
        return np.array([[table[name]["by_problem"][measure][key] for key in problems] for table in tables], dtype=float)

    rows: list[Row] = []
    for name in shared:
        row: Row = {"name": name, "kind": tables[0][name]["kind"], "runs": len(tables), "problems": len(problems), "by_level": {}}
        row |= {measure: round(float(values_SP(name, measure).mean()), 7) for measure in BY_PROBLEM}
        row |= {f"{measure}_ci": interval_over_runs(values_SP(name, measure), settings.bootstrap) for measure in COMPARED}
        row["by_run"] = {run: round(float(value), 4) for run, value in zip(results, values_SP(name, "reward").mean(axis=1), strict=True)}
        if name != settings.against:
            row["minus"] = {"of": settings.against, "problems": len(problems)}
            for measure in COMPARED:
                row["minus"] |= difference_of(values_SP(name, measure), values_SP(settings.against, measure), measure, settings.bootstrap)
        rows.append(row)
    return rows
