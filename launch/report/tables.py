"""The final table and its heat tables by level, ready to be set as HTML."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps

from launch.report.run_data import Row
from trainer.evaluation.rows import BEST_FIXED, BEST_PER_LEVEL, EQUAL_COST, HINDSIGHT

MEASURES = (("reward", "Reward", "{:.2f}"), ("pass_rate", "Pass rate", "{:.0%}"), ("calls", "Worker calls", "{:.1f}"))


@dataclass(frozen=True)
class FinalRow:
    """One line of the final table, as texts."""

    name: str
    kind: str
    detail: str
    reward: str
    reward_ci: str
    reward_share: float
    """Length of the bar: reward as a share of the highest, in [0, 1]."""
    pass_rate: str
    solved: str
    """By all tests of a problem, the public ones too."""
    calls: str
    cost: str


@dataclass(frozen=True)
class BenchmarkRow:
    """One line of the table by benchmark, as texts."""

    name: str
    kind: str
    solved: list[str]


@dataclass(frozen=True)
class Cell:
    """One coloured cell."""

    text: str
    background: str
    colour: str


@dataclass(frozen=True)
class HeatRow:
    """One row of a heat table: a group of cells per measure, a cell per level."""

    name: str
    kind: str
    groups: list[list[Cell]]


@dataclass(frozen=True)
class HeatTable:
    """Rows of the final table by level, for one kind of queries."""

    queries: str
    measures: list[str]
    levels: list[str]
    rows: list[HeatRow]


def sort_rows(rows: Sequence[Row]) -> list[Row]:
    """Policies, then what choosing and more samples reach, then the fixed workflows by reward."""
    made = (BEST_FIXED, BEST_PER_LEVEL, EQUAL_COST, HINDSIGHT)

    def rank(row: Row) -> tuple[int, float]:
        if row["kind"] == "policy":
            return 0, 0.0
        return (1, made.index(row["name"])) if row["name"] in made else (2, -row["reward"])

    return sorted(rows, key=rank)


def final_rows(rows: Sequence[Row]) -> list[FinalRow]:
    """The final table in the order in which one reads it."""
    highest = max((row["reward"] for row in rows), default=1.0) or 1.0
    return [
        FinalRow(
            name=row["name"],
            kind=_kind(row),
            detail=row["of"] if isinstance(row.get("of"), str) else "",
            reward=f"{row['reward']:.3f}",
            reward_ci=_interval(row.get("reward_ci"), "{:.3f}"),
            reward_share=max(0.0, min(1.0, row["reward"] / highest)),
            pass_rate=f"{row['pass_rate']:.1%}",
            solved=f"{row['solved']:.1%}" if "solved" in row else "-",
            calls=f"{row['calls']:.2f}",
            cost=f"{row['cost'] * 1000:.3f}",
        )
        for row in sort_rows(rows)
    ]


def difference_table(rows: Sequence[Row]) -> tuple[str, list[tuple[str, str, list[str]]]]:
    """(the row that others are compared with, rows): name, kind and the differences in reward and solved; empty where there is none."""
    compared = [(row["name"], _kind(row), row["minus"]) for row in sort_rows(rows) if row.get("minus")]
    lines = [(name, kind, [_difference(found, measure) for measure in ("reward", "solved")]) for name, kind, found in compared]
    return (compared[0][2]["of"], lines) if compared else ("", [])


def _difference(found: Row, measure: str) -> str:
    if measure not in found:
        return "-"
    return f"{found[measure]:+.3f} ({_interval(found[f'{measure}_ci'], '{:+.3f}')}; p {found[f'{measure}_p']:.2g})"


def benchmark_table(rows: Sequence[Row]) -> tuple[list[str], list[BenchmarkRow]]:
    """(benchmarks, rows): the share of problems solved by all of their tests in each and overall; empty where there is one benchmark."""
    names = list(dict.fromkeys(name for row in rows for name in row.get("by_benchmark", {})))
    lines = [
        BenchmarkRow(row["name"], _kind(row), [_share(row["by_benchmark"].get(name, {})) for name in names] + [_share(row)])
        for row in sort_rows(rows)
        if "by_benchmark" in row
    ]
    return [*names, "overall"] if names else [], lines


def _share(row: Row) -> str:
    return f"{row['solved']:.1%}" if "solved" in row else "-"


def pass_at_k_lines(rows: Sequence[Row]) -> list[str]:
    """pass@k of each sampled row, in words."""
    chances = {row["name"]: row["pass_at_k"] for row in rows if "pass_at_k" in row}
    return [f"{name}: " + ", ".join(f"pass@{k} {value:.1%}" for k, value in found.items()) for name, found in chances.items()]


def choice_lines(rows: Sequence[Row]) -> list[str]:
    """How far each choice among fixed workflows can be trusted, in words."""
    return [
        f"{row['name']}: chosen on {choice['problems']} validation queries, {choice['runs']} runs in all"
        + (f" (its reward there minus here: {choice['optimism']:+.3f})" if "optimism" in choice else "")
        + f"; chance costs the choice {choice['noise']:.3f} of reward"
        for row in rows
        if (choice := row.get("choice"))
    ]


def terms_table(rows: Sequence[Row]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """(terms, rows): the mean of each term of the reward in each row of the final table, unweighted; of older runs there are none."""
    measured = [(row["name"], row.get("terms", {})) for row in sort_rows(rows)]
    names = list(dict.fromkeys(name for _, terms in measured for name in terms))
    return names, [(row, [f"{terms[name]:.4g}" if name in terms else "-" for name in names]) for row, terms in measured]


def heat_tables(rows: Sequence[Row]) -> list[HeatTable]:
    """One table for all queries, one for those with and one for those without examples."""
    levels = sorted({level for row in rows for level in row.get("by_level", {})}, key=int)
    if not levels:
        return []
    kinds = (("All queries", None), ("Queries with examples", "with_examples"), ("Queries without examples", "without_examples"))
    return [_heat(sort_rows(rows), levels, queries, key) for queries, key in kinds]


def _heat(rows: Sequence[Row], levels: list[str], queries: str, key: str | None) -> HeatTable:
    groups: list[list[list[Cell]]] = [[] for _ in rows]
    for name, _, form in MEASURES:
        values = [[_value(row, level, name, key) for level in levels] for row in rows]
        known = [value for line in values for value in line if value is not None]
        low, high = min(known, default=0.0), max(known, default=1.0)
        for group, line in zip(groups, values, strict=True):
            group.append([_cell(value, low, high, form, falling=name == "calls") for value in line])
    lines = [HeatRow(row["name"], _kind(row), group) for row, group in zip(rows, groups, strict=True)]
    return HeatTable(queries, [title for _, title, _ in MEASURES], levels, lines)


def _kind(row: Row) -> str:
    return "best" if row["name"] == BEST_FIXED else row["kind"]


def _value(row: Row, level: str, name: str, key: str | None) -> float | None:
    cell: Any = row.get("by_level", {}).get(level, {})
    return (cell.get(key, {}) if key else cell).get(name)


def _cell(value: float | None, low: float, high: float, form: str, *, falling: bool) -> Cell:
    if value is None:
        return Cell("-", "#ffffff", "#222222")
    position = (value - low) / (high - low) if high > low else 0.5
    red, green, blue, _ = colormaps["YlOrBr" if falling else "YlGnBu"](0.05 + 0.75 * position)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    background = f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
    return Cell(form.format(value), background, "#1a1a1a" if light > 0.52 else "#ffffff")


def _interval(bounds: Sequence[float] | None, form: str) -> str:
    return f"{form.format(bounds[0])} to {form.format(bounds[1])}" if bounds else ""
