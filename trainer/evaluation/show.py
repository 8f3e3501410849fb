"""The final table on a terminal."""

from collections.abc import Collection, Sequence

from trainer.evaluation.rows import BEST_FIXED, EQUAL_COST, HINDSIGHT, Row
from trainer.run.terminal import Terminal, table

TABLE_WIDTH = 150
"""Columns of a terminal that holds the whole table."""
LEAST_WIDTH = 80
"""Columns from which figures stay in one line."""


def print_table(rows: Sequence[Row], terminal: Terminal, *, without: Collection[str] = ()) -> None:
    """The table on the terminal: means with 95 % intervals, and the reward of each level; two tables where one would be too wide.

    Args:
        without: names of rows that are left to results.json and the report.
    """
    shown = [row for row in rows if row["name"] not in without]
    levels = sorted({level for row in shown for level in _levels(row)}, key=int)
    means = ["reward", "pass rate", "solved", "calls", "$ / 1000"]
    names = [f"{row['name']} ({row['of']})" if row["name"] == BEST_FIXED and "of" in row else str(row["name"]) for row in shown]
    cells = [_cells(row, levels) for row in shown]
    columns = [*means, *(f"L{level}" for level in levels)]
    parts = [slice(0, None)] if terminal.width >= TABLE_WIDTH else [slice(0, 3), slice(3, None)]
    for part, title in zip(parts, ("Held-out problems", "Their price, and their reward by level"), strict=False):
        if columns[part]:
            lines = [[name, *row[part]] for name, row in zip(names, cells, strict=True)]
            terminal.print(table(["", *columns[part]], lines, title=title, whole=columns if terminal.width >= LEAST_WIDTH else ()))
    _print_differences(shown, terminal)
    _print_benchmarks(shown, names, terminal)
    if left := len(rows) - len(shown):
        terminal.print(f"{left} more fixed workflow{'s' if left > 1 else ''} in results.json and in the report.", soft_wrap=True)
    for row in shown:
        for sentence in _sentences(row):
            terminal.print(sentence, soft_wrap=True)


def _print_differences(rows: Sequence[Row], terminal: Terminal) -> None:
    compared = [(str(row["name"]), row["minus"]) for row in rows if row.get("minus")]
    if compared:
        lines = [[name, _difference(minus, "reward"), _difference(minus, "solved")] for name, minus in compared]
        terminal.print(table(["", "reward", "solved"], lines, title=f"Minus {compared[0][1]['of']}, problem by problem"))


def _print_benchmarks(rows: Sequence[Row], names: Sequence[str], terminal: Terminal) -> None:
    sources = list(dict.fromkeys(source for row in rows for source in row.get("by_benchmark", {})))
    if not sources:
        return
    lines = [
        [name, *(_solved(row.get("by_benchmark", {}).get(source, {})) for source in sources), _solved(row)]
        for name, row in zip(names, rows, strict=True)
    ]
    terminal.print(table(["", *sources, "overall"], lines, title="Solved by all tests of a problem, by benchmark (overall: by problems)"))


def _solved(row: Row) -> str:
    return f"{row['solved']:.1%}" if "solved" in row else ""


def _sentences(row: Row) -> list[str]:
    """What is to be said of a row beside its figures."""
    said: list[str] = []
    if chances := row.get("pass_at_k"):
        said.append(f"{row['name']}: " + ", ".join(f"pass@{k} {value:.3f}" for k, value in chances.items()))
    if choice := row.get("choice"):
        better = f" (its reward there minus here: {choice['optimism']:+.3f})" if "optimism" in choice else ""
        said.append(f"{row['name']}: chosen on {choice['problems']} validation problems{better}; chance costs this {choice['noise']:.3f}")
    if row["name"] == EQUAL_COST and "of" in row:
        said.append(f"{EQUAL_COST}: {row['of']}")
    if row["name"] == HINDSIGHT:
        said.append(f"{HINDSIGHT}: the best fixed workflow of each problem, picked after the fact: nobody can choose so, luck included")
    if row.get("lost"):
        lost = f"{row['lost']} of {row['lost'] + row['problems']} problems lost to infrastructure failures"
        said.append(f"{row['name']}: {lost}, most of them: {row['why']}")
    return said


def _difference(row: Row, name: str) -> str:
    low, high = row[f"{name}_ci"]
    p = row[f"{name}_p"]
    return f"{row[name]:+.3f} [{low:+.3f}, {high:+.3f}] p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def _cells(row: Row, levels: Sequence[str]) -> list[str]:
    if not row.get("problems"):
        return ["lost, see below", "", "", "", "", *("" for _ in levels)]
    solved = f"{row['solved']:.3f}" if "solved" in row else ""
    means = [_with_interval(row, "reward"), _with_interval(row, "pass_rate"), solved, f"{row['calls']:.2f}", f"{row['cost'] * 1000:.3f}"]
    return means + [f"{_levels(row)[level]['reward']:.2f}" if level in _levels(row) else "" for level in levels]


def _levels(row: Row) -> dict[str, dict[str, float]]:
    return row["by_level"]


def _with_interval(row: Row, key: str) -> str:
    low, high = row[f"{key}_ci"]
    return f"{row[key]:.3f} [{low:.3f}, {high:.3f}]"


def print_workers(rows: Sequence[Row], terminal: Terminal) -> None:
    """What each row reaches with each worker (the paper's table 3): the share of problems solved by all of their tests."""
    workers = list(dict.fromkeys(row["worker"] for row in rows))
    found = {(row["name"], row["worker"]): row for row in rows}
    lines = [
        [name, *(_solved(found.get((name, worker), {})) or "lost" for worker in workers)]
        for name in dict.fromkeys(row["name"] for row in rows)
    ]
    terminal.print(table(["", *workers], lines, title="Solved by all tests of a problem, by worker"))
