"""Figures of how the system worked: where a step's time goes, who waits for whom, what further rounds add."""

from collections.abc import Mapping

from matplotlib import colormaps
from matplotlib.ticker import PercentFormatter

from launch.report.run_data import RunData
from launch.report.style import BLACK, BLUE, GREEN, HALF, ORANGE, PURPLE, SKY, figure, smooth, svg
from launch.report.training_figures import series, steps_axis, window

STAGE_TIMES: Mapping[str, tuple[str, str]] = {
    "time/sample_s": ("sample", BLUE),
    "time/run_s": ("run workflows", SKY),
    "time/judge_s": ("judge", GREEN),
    "time/update_s": ("update", ORANGE),
    "time/publish_s": ("publish weights", PURPLE),
}

ACTORS: Mapping[str, tuple[str, str]] = {
    "idle/engines": ("rollout engines", BLUE),
    "idle/sandboxes": ("sandboxes", GREEN),
    "idle/learner": ("learner", ORANGE),
}


def time_per_step(run: RunData) -> str:
    """Wall seconds of each step by stage."""
    steps = [row["step"] + 1 for row in run.grpo]
    parts = {name: [float(row.get(name) or 0) for row in run.grpo] for name in STAGE_TIMES}
    if not steps or not any(any(values) for values in parts.values()):
        return ""
    with figure(HALF, 360) as (drawn, (axes,)):
        bottom = [0.0] * len(steps)
        for name, (text, colour) in STAGE_TIMES.items():
            mean = sum(parts[name]) / len(steps)
            axes.bar(steps, parts[name], bottom=bottom, width=1.0, color=colour, label=f"{text} (mean {mean:.2f} s)")
            bottom = [low + value for low, value in zip(bottom, parts[name], strict=True)]
        if max(series(run.grpo, "staleness/max")[1], default=0.0) > 0:
            axes.plot(*series(run.grpo, "time/step_s"), color=BLACK, linewidth=1.5, label="the whole step")
        ordered = sorted(bottom)
        axes.set_ylim(0, 1.35 * ordered[int(0.97 * (len(ordered) - 1))] or 1)
        axes.set_title("Where the time of a step goes")
        axes.set_ylabel("seconds per step")
        steps_axis(axes)
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return svg(drawn, "Time per step")


def idle(run: RunData) -> str:
    """The share of each step in which each kind of actor had nothing to do."""
    present = [name for name in ACTORS if series(run.grpo, name)[0]]
    if not present:
        return ""
    with figure(HALF, 360) as (drawn, (axes,)):
        for name in present:
            text, colour = ACTORS[name]
            steps, values = series(run.grpo, name)
            axes.plot(steps, values, color=colour, linewidth=1, alpha=0.3)
            axes.plot(steps, smooth(values, window(steps)), color=colour, label=f"{text} (mean {sum(values) / len(values):.0%})")
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        ages = series(run.grpo, "staleness/mean")[1]
        axes.set_title(f"Idle actors (groups are {sum(ages) / len(ages):.2f} updates old on average)" if any(ages) else "Idle actors")
        axes.set_ylabel("share of the step")
        steps_axis(axes)
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return svg(drawn, "Idle actors")


def rounds(run: RunData) -> str:
    """What the workflow of each round is worth on hidden tests, over the episodes that reach the round."""
    numbers = [number for number in range(1, 11) if series(run.grpo, f"round/{number}_performance")[0]]
    if len(numbers) < 2:
        return ""
    shades = colormaps["viridis_r"]
    with figure(HALF, 400, nrows=2, sharex=True) as (drawn, (worth, reached)):
        for number in numbers:
            shade = shades(0.2 + 0.7 * (number - 1) / (len(numbers) - 1))
            steps, values = series(run.grpo, f"round/{number}_performance")
            worth.plot(steps, smooth(values, max(3, window(steps))), color=shade, label=f"round {number}")
            steps, values = series(run.grpo, f"round/{number}_reached")
            reached.plot(steps, smooth(values, max(3, window(steps))), color=shade)
        worth.set_title("Rounds of an episode")
        worth.set_ylabel("hidden tests passed")
        reached.set_ylabel("episodes with it")
        for axes in (worth, reached):
            axes.set_ylim(0, 1.05)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        steps_axis(reached)
        drawn.legend(*worth.get_legend_handles_labels(), loc="outside lower center", ncols=min(5, len(numbers)))
        return svg(drawn, "Rounds of an episode")
