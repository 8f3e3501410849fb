"""Figures of a sweep: each measure against each swept setting, and the Pareto front. Inline SVG; an empty string where there is none."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from launch.report.run_data import Row
from launch.report.style import BLACK, BLUE, FULL, GREEN, GREY, ORANGE, PURPLE, RED, SKY, figure, svg
from launch.report.sweep_data import Setup, SweepData, Value, front, order

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)
PANELS = (
    ("pass_rate", "Queries solved", "share of held-out queries"),
    ("calls", "Worker calls", "calls per query"),
    ("cost", "Cost", "dollars per 1000 queries"),
    ("latency", "Latency", "seconds per query"),
)
AXES = (("calls", "worker calls per query", 1), ("cost", "dollars per 1000 queries", 1000))
MANY = 12
"""Values beyond which points are not joined, and configurations beyond which only those on the front are named."""


def format_value(value: Value) -> str:
    """A value as a label."""
    return value if isinstance(value, str) else f"{value:.4g}"


def short(setting: str) -> str:
    """The last two parts of a setting's name."""
    return " ".join(setting.split(".")[-2:]) if setting.startswith("reward.weights") else setting


def label_of(setup: Setup, names: Sequence[str], *, always_named: bool = False) -> str:
    """The values of a setup, named where there is more than one (or always)."""
    named = [(name.split(".")[-1], format_value(setup.values[name])) for name in names if name in setup.values]
    return named[0][1] if len(named) == 1 and not always_named else ", ".join(f"{name} {value}" for name, value in named)


def point_name(sweep: SweepData, index: int) -> str:
    """How a configuration is called in a figure: by its value or, where it has several, by its number in the table."""
    return label_of(sweep.setups[index], sweep.swept) if len(sweep.swept) == 1 else str(index + 1)


def against(sweep: SweepData, setting: str) -> str:
    """Pass rate, calls, cost and latency against one setting; a line for each combination of the other settings."""
    with_it = [setup for setup in sweep.setups if setting in setup.values]
    values = sorted({setup.values[setting] for setup in with_it}, key=lambda value: order([value]))
    if len(values) < 2:
        return ""
    lines = _lines(with_it, setting, [name for name in sweep.swept if name != setting])
    numeric = all(isinstance(value, float) for value in values)
    with figure(FULL, 680, ncols=2, nrows=2) as (drawn, panels):
        drawn.set_layout_engine("constrained", h_pad=0.12)
        for axes, (measure, title, unit) in zip(panels, PANELS, strict=True):
            for colour, (label, setups) in zip(COLOURS, lines.items(), strict=False):
                _draw_line(axes, setups, setting, values, measure, colour, label)
            axes.set_title(title)
            axes.set_ylabel(unit)
            axes.set_ylim(bottom=0) if measure != "pass_rate" else axes.margins(y=0.12)
            axes.yaxis.set_major_formatter(_format(measure))
            _value_axis(axes, setting, values, numeric)
        if len(lines) > 1:
            drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return svg(drawn, f"Measures against {setting}")


def _lines(setups: Sequence[Setup], setting: str, others: Sequence[str]) -> dict[str, list[Setup]]:
    """Setups by the values of the other settings; all pooled by this setting's value where they are too many to tell apart."""
    lines: dict[str, list[Setup]] = {}
    for setup in setups:
        label = ", ".join(f"{short(name)} {format_value(setup.values[name])}" for name in others if name in setup.values)
        lines.setdefault(label, []).append(setup)
    if len(lines) <= len(COLOURS):
        return lines
    pooled: dict[Value, Setup] = {}
    for setup in setups:
        value = setup.values[setting]
        known = pooled.get(value)
        pooled[value] = Setup({setting: value}, [*(known.trials if known else []), *setup.trials])
    return {"": list(pooled.values())}


def _draw_line(axes: Axes, setups: Sequence[Setup], setting: str, values: Sequence[Value], measure: str, colour: str, label: str) -> None:
    numeric = all(isinstance(value, float) for value in values)
    places = [float(setup.values[setting]) if numeric else float(values.index(setup.values[setting])) for setup in setups]
    xs, ordered = sorted(places), [setups[i] for i in sorted(range(len(setups)), key=lambda i: places[i])]
    scale = 1000 if measure == "cost" else 1
    means, lows, highs = zip(
        *((e.mean * scale, e.low * scale, e.high * scale) for e in (setup.estimates[measure] for setup in ordered)), strict=True
    )
    if len(xs) > MANY:
        bars = [[m - low for m, low in zip(means, lows, strict=True)], [high - m for m, high in zip(means, highs, strict=True)]]
        axes.errorbar(xs, means, yerr=bars, color=colour, marker="o", markersize=5, elinewidth=0.8, linestyle="none", label=label)
        return
    axes.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.plot(xs, means, color=colour, marker="o", markersize=7, label=label)
    for x, setup in zip(xs, ordered, strict=True):
        if len(setup.trials) > 1:
            dots = [scale * sum(figures.values()) / len(figures) for figures in (trial.measure(measure) for trial in setup.trials)]
            axes.plot([x] * len(dots), dots, linestyle="none", marker="o", markersize=4, color=colour, alpha=0.45)


def _value_axis(axes: Axes, setting: str, values: Sequence[Value], numeric: bool) -> None:
    positions = [float(value) for value in values] if numeric else list(range(len(values)))
    penalty = setting.startswith("reward.weights.") and numeric and max(positions) <= 0
    axes.set_xlabel(f"{setting}{' (the stronger, the further right)' if penalty else ''}")
    if len(values) <= MANY:
        axes.set_xticks(positions, [format_value(value) for value in values])
    if penalty:
        axes.invert_xaxis()


def pareto(sweep: SweepData) -> str:
    """Pass rate against calls and against cost: every configuration, the front joined, fixed workflows for comparison."""
    if not sweep.setups:
        return ""
    fixed = _average_fixed(sweep)
    with figure(FULL, 470, ncols=2, sharey=True) as (drawn, panels):
        for axes, (measure, unit, scale) in zip(panels, AXES, strict=True):
            points = [(setup.estimates[measure].mean * scale, setup.estimates["pass_rate"].mean) for setup in sweep.setups]
            best = front(points)
            xs, ys = zip(*(points[i] for i in best), strict=True)
            axes.step(xs, ys, where="post", color=BLUE, linewidth=1.5, label="Pareto front")
            axes.plot(
                [row[measure] * scale for row in fixed],
                [row["pass_rate"] for row in fixed],
                "s",
                color=GREY,
                markersize=5,
                alpha=0.7,
                label="fixed workflow",
            )
            for on_front in (True, False):
                members = [i for i in range(len(points)) if (i in best) is on_front]
                _draw_points(axes, [sweep.setups[i] for i in members], measure, scale, on_front, faint=len(points) > MANY)
            for i in range(len(points)):
                if i in best or len(points) <= MANY:
                    _name(axes, point_name(sweep, i), points[i], i)
            axes.margins(x=0.14, y=0.1)
            axes.set_title(f"Queries solved against {'worker calls' if measure == 'calls' else 'cost'}")
            axes.set_xlabel(unit)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panels[0].set_ylabel("share of held-out queries solved")
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        return svg(drawn, "Pareto front")


def _draw_points(axes: Axes, setups: Sequence[Setup], measure: str, scale: float, on_front: bool, faint: bool) -> None:
    if not setups:
        return
    x = [setup.estimates[measure] for setup in setups]
    y = [setup.estimates["pass_rate"] for setup in setups]
    axes.errorbar(
        [e.mean * scale for e in x],
        [e.mean for e in y],
        xerr=[[(e.mean - e.low) * scale for e in x], [(e.high - e.mean) * scale for e in x]],
        yerr=[[e.mean - e.low for e in y], [e.high - e.mean for e in y]],
        color=BLUE if on_front else SKY,
        marker="o",
        markersize=9 if on_front else 7,
        elinewidth=0.9 if on_front or not faint else 0,
        linestyle="none",
        label="on the front" if on_front else "reached for less elsewhere",
    )


def _name(axes: Axes, text: str, point: tuple[float, float], index: int) -> None:
    axes.annotate(text, point, xytext=(8, 7 if index % 2 == 0 else -15), textcoords="offset points", color=BLACK, fontsize=9.5)


def _average_fixed(sweep: SweepData) -> list[Row]:
    """Mean of each fixed workflow over the trials."""
    by_name: dict[str, list[Row]] = {}
    for trial in sweep.trials:
        for row in trial.rows:
            if row["kind"] == "workflow" and row["name"] != "best fixed workflow":
                by_name.setdefault(row["name"], []).append(row)
    return [
        {"name": name} | {key: sum(row[key] for row in rows) / len(rows) for key in ("pass_rate", "calls", "cost")}
        for name, rows in by_name.items()
    ]


def _format(measure: str) -> PercentFormatter | FuncFormatter:
    return PercentFormatter(1.0, decimals=0) if measure == "pass_rate" else FuncFormatter(lambda value, _: f"{value:g}")
