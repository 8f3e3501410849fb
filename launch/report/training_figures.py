"""Figures of what happened while training, each as inline SVG; an empty string where the run has nothing to show."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from launch.report.run_data import Row, RunData
from launch.report.style import (
    BLACK,
    BLUE,
    CYCLE,
    FULL,
    GREEN,
    GREY,
    HALF,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    figure,
    operator_colour,
    smooth,
    svg,
)
from trainer.evaluation.rows import BEST_FIXED, BEST_PER_LEVEL
from workflow.registry import short_name

OUTCOMES: Mapping[str, tuple[str, str]] = {
    "passed": ("passed every hidden test", GREEN),
    "wrong_answer": ("wrong answer", ORANGE),
    "crashed": ("workflow crashed", RED),
    "timed_out": ("timed out", PURPLE),
    "budget_exceeded": ("budget exceeded", SKY),
    "forbidden": ("forbidden construct", YELLOW),
    "syntax_error": ("syntax error", "#a6761d"),
    "no_workflow": ("no workflow", BLACK),
    "infra_error": ("machine failed (masked)", "#bdbdbd"),
}


def series(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    """Steps (from 1) and values of one metric, where it was measured."""
    points = [(row["step"] + 1, float(row[name])) for row in rows if row.get(name) is not None]
    return [step for step, _ in points], [value for _, value in points]


def window(steps: Sequence[Any]) -> int:
    """Steps that a smoothed line averages over."""
    return max(1, len(steps) // 12)


def steps_axis(axes: Axes, label: str = "GRPO step") -> None:
    """Whole steps along the bottom."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def reward(run: RunData) -> str:
    """Training reward, validation, and where the reference lines of the final table lie."""
    steps, values = series(run.grpo, "reward/mean")
    if not steps:
        return ""
    with figure(HALF, 400) as (drawn, (axes,)):
        axes.plot(steps, values, color=BLUE, linewidth=1, alpha=0.35)
        axes.plot(steps, smooth(values, window(steps)), color=BLUE, label="training (sampled; thin: each step)")
        checked, held_out = series(run.grpo, "eval/reward")
        if checked:
            axes.plot(checked, held_out, "o", color=BLACK, markersize=6, label="validation")
        ends = max(steps)
        for name, text, colour in (
            (BEST_PER_LEVEL, BEST_PER_LEVEL, GREEN),
            (BEST_FIXED, BEST_FIXED, RED),
            ("SFT policy", "SFT policy", GREY),
        ):
            row = run.row(name)
            if row:
                axes.axhline(row["reward"], color=colour, linestyle=(0, (5, 3)), linewidth=1.5)
                axes.annotate(
                    f"{text} {row['reward']:.3f}",
                    (ends, row["reward"]),
                    xytext=(0, 4),
                    textcoords="offset points",
                    ha="right",
                    color=colour,
                )
        axes.set_title("Reward over training")
        axes.set_ylabel("reward per episode")
        steps_axis(axes)
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return svg(drawn, "Reward over training")


def reward_parts(run: RunData) -> str:
    """Each term times its weight: above what raises the reward, below what lowers it."""
    weights = {short_name(name): weight for name, weight in run.setting("reward.weights", {}).items()}
    colours = dict(zip(weights, cycle(CYCLE), strict=False))
    active = [name for name, weight in weights.items() if weight and series(run.grpo, f"reward/{name}")[0]]
    signs = [sign for sign in (1, -1) if any(weights[name] * sign > 0 for name in active)]
    if not signs:
        return ""
    with figure(HALF, 400, nrows=len(signs), sharex=True) as (drawn, panels):
        for axes, sign in zip(panels, signs, strict=True):
            for name in active:
                if weights[name] * sign < 0:
                    continue
                steps, values = series(run.grpo, f"reward/{name}")
                weighted = [value * weights[name] for value in values]
                axes.plot(steps, smooth(weighted, window(steps)), color=colours[name], label=f"{weights[name]:+g} × {name}")
            axes.margins(y=0.15)
            axes.set_ylabel("raises reward" if sign > 0 else "lowers reward")
        panels[0].set_title("Parts of the reward (weight × mean term)")
        steps_axis(panels[-1])
        handles = [axes.get_legend_handles_labels() for axes in panels]
        lines, labels = [line for part in handles for line in part[0]], [text for part in handles for text in part[1]]
        drawn.legend(lines, labels, loc="outside lower center", ncols=3)
        return svg(drawn, "Parts of the reward")


def outcomes(run: RunData) -> str:
    """How episodes ended, as shares of each step."""
    steps = [row["step"] + 1 for row in run.grpo]
    names = dict.fromkeys([*OUTCOMES, *members(run, "outcome")])
    shares = {name: [float(row.get(f"outcome/{name}") or 0) for row in run.grpo] for name in names}
    present = [name for name in names if any(shares[name])]
    shown = [OUTCOMES.get(name, (name.replace("_", " "), GREY)) for name in present]
    if not steps or not present:
        return ""
    with figure(HALF, 380) as (drawn, (axes,)):
        width = window(steps)
        axes.stackplot(
            steps,
            [smooth(shares[name], width) for name in present],
            colors=[colour for _, colour in shown],
            labels=[text for text, _ in shown],
            edgecolor="white",
            linewidth=0.5,
        )
        axes.set_ylim(0, 1)
        axes.set_xlim(min(steps), max(max(steps), min(steps) + 1))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_title("How episodes ended")
        axes.set_ylabel("share of episodes")
        steps_axis(axes)
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return svg(drawn, "How episodes ended")


def members(run: RunData, family: str) -> list[str]:
    """Names of the metrics of a family (``operator/test``: ``test``), in the order in which steps have them."""
    return list(dict.fromkeys(name.partition("/")[2] for row in run.grpo for name in row if name.startswith(f"{family}/")))


def operators(run: RunData) -> str:
    """How many of the workflows use each operator."""
    colours = {name: operator_colour(name) for name in members(run, "operator")}
    return _shares(run, "operator", colours, "Operators that workflows use", "share of workflows")


def verifiers(run: RunData) -> str:
    """How many of the answers that each verifier judged passed, where there are several."""
    colours = dict(zip(members(run, "verifier"), cycle(CYCLE), strict=False))
    return _shares(run, "verifier", colours, "Answers that pass each verifier", "share of judged answers") if len(colours) > 1 else ""


def _shares(run: RunData, family: str, colours: Mapping[str, str], title: str, label: str) -> str:
    """A line for each metric of a family of shares that is ever above 0."""
    drawn_names = [name for name in colours if any(series(run.grpo, f"{family}/{name}")[1])]
    if not drawn_names:
        return ""
    with figure(HALF, 380) as (drawn, (axes,)):
        for name in drawn_names:
            steps, values = series(run.grpo, f"{family}/{name}")
            axes.plot(steps, smooth(values, max(3, window(steps))), color=colours[name], label=name)
        axes.set_ylim(0, 1.05)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_title(title)
        axes.set_ylabel(label)
        steps_axis(axes)
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        return svg(drawn, title)


def calls_over_steps(run: RunData) -> str:
    """Calls by level while training goes on."""
    levels = sorted({int(name.removeprefix("calls/level_")) for row in run.grpo for name in row if name.startswith("calls/level_")})
    if not levels:
        return ""
    shades = colormaps["viridis_r"]
    with figure(HALF, 360) as (drawn, (axes,)):
        for position, level in enumerate(levels):
            steps, values = series(run.grpo, f"calls/level_{level}")
            shade = shades(0.15 + 0.8 * position / max(1, len(levels) - 1))
            axes.plot(steps, smooth(values, max(3, window(steps))), color=shade, label=f"level {level}")
        axes.set_title("Calls by difficulty while training")
        axes.set_ylabel("worker calls per run")
        axes.set_ylim(bottom=0)
        steps_axis(axes)
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside right center")
        return svg(drawn, "Calls while training")


def learning(run: RunData) -> str:
    """SFT loss, and what the policy update reports."""
    panels = [
        (run.sft, "sft/loss", "SFT loss", "loss (nats per token)", "SFT step", BLACK),
        (run.grpo, "actor/kl", "KL to the SFT policy", "KL (nats per token)", "GRPO step", PURPLE),
        (run.grpo, "actor/entropy", "Entropy of the policy", "entropy (nats per token)", "GRPO step", GREEN),
        (run.grpo, "actor/grad_norm", "Gradient norm", "norm before clipping", "GRPO step", ORANGE),
    ]
    shown = [panel for panel in panels if series(panel[0], panel[1])[0]]
    if not shown:
        return ""
    with figure(FULL, 270, ncols=len(shown)) as (drawn, axes_list):
        for axes, (rows, name, title, label, steps_label, colour) in zip(axes_list, shown, strict=True):
            steps, values = series(rows, name)
            axes.plot(steps, values, color=colour, linewidth=1, alpha=0.4)
            axes.plot(steps, smooth(values, window(steps)), color=colour)
            axes.set_title(title)
            axes.set_ylabel(label)
            axes.set_xlabel(steps_label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        return svg(drawn, "Learning curves")
