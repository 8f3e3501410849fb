"""Figures of the final table, each as inline SVG; an empty string where the run has none."""

from matplotlib.ticker import MaxNLocator

from launch.report.run_data import RunData
from launch.report.style import BLACK, BLUE, FULL, GREEN, GREY, HALF, figure, svg
from trainer.evaluation.rows import BEST_FIXED, BEST_PER_LEVEL, EQUAL_COST, SAMPLED


def calls_by_level(run: RunData) -> str:
    """Worker calls that policies spend at each level of difficulty, with and without examples."""
    shown = [("SFT policy", GREY, "s"), ("GRPO policy", BLUE, "o"), (BEST_PER_LEVEL, GREEN, "^")]
    rows = [(run.row(name), name, colour, marker) for name, colour, marker in shown]
    rows = [entry for entry in rows if entry[0] and entry[0].get("by_level")]
    if not rows:
        return ""
    with figure(FULL, 360, ncols=2, sharey=True) as (drawn, panels):
        for axes, key, title in zip(panels, ("with_examples", "without_examples"), ("with", "without"), strict=True):
            for row, name, colour, marker in rows:
                assert row is not None
                points = [(int(level), cell[key]["calls"]) for level, cell in row["by_level"].items() if "calls" in cell.get(key, {})]
                if points:
                    style = "--" if name == BEST_PER_LEVEL else "-"
                    axes.plot(*zip(*sorted(points), strict=True), style, color=colour, marker=marker, markersize=7, label=name)
            axes.set_title(f"Queries {title} examples in the text")
            axes.set_xlabel("difficulty level of the query")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0].set_ylim(bottom=0)  # after both panels: a limit stops the shared axis from growing
        panels[0].set_ylabel("worker calls per query")
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return svg(drawn, "Calls by difficulty")


def reward_against_calls(run: RunData) -> str:
    """Every row of the final table as a point: reward against calls, with 95 % intervals."""
    if len(run.rows) < 3:
        return ""
    kinds = {"policy": (BLUE, "o", "policy"), "workflow": (GREY, "s", "fixed workflow"), "choice": (GREEN, "^", BEST_PER_LEVEL)}
    with figure(HALF, 360) as (drawn, (axes,)):
        named: set[str] = set()
        for row in run.rows:
            if row["name"] == BEST_FIXED or row["name"].endswith(SAMPLED) or row["kind"] not in kinds:
                continue
            colour, marker, text = kinds[row["kind"]]
            low, high = row.get("reward_ci", [row["reward"]] * 2)
            bars = [[max(0.0, row["reward"] - low)], [max(0.0, high - row["reward"])]]
            axes.errorbar(
                row["calls"],
                row["reward"],
                yerr=bars,
                color=colour,
                marker=marker,
                markersize=8 if row["kind"] != "workflow" else 6,
                elinewidth=1,
                linestyle="none",
                label=text if text not in named else None,
            )
            named.add(text)
            if row["kind"] != "workflow" or row["name"] == EQUAL_COST:
                left = row["kind"] != "policy"
                axes.annotate(
                    row["name"],
                    (row["calls"], row["reward"]),
                    xytext=(-9 if left else 9, 3),
                    textcoords="offset points",
                    ha="right" if left else "left",
                    color=colour,
                )
        best = run.row(BEST_FIXED)
        if best:
            axes.annotate("best fixed", (best["calls"], best["reward"]), xytext=(9, -12), textcoords="offset points", color=BLACK)
        axes.margins(x=0.18)
        axes.set_title("Reward against worker calls (held-out queries)")
        axes.set_xlabel("worker calls per query (a test run counts as set)")
        axes.set_ylabel("reward (bars: 95 % interval)")
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return svg(drawn, "Reward against calls")
