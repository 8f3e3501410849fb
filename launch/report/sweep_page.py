"""The report of a sweep: what each setting does to pass rate, calls, cost and latency, and which configurations are worth their price."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from markupsafe import Markup

from launch.report.page import Card, about, template
from launch.report.sweep_data import SEED, Estimate, Setup, SweepData, TrialData, front, order, read_sweep
from launch.report.sweep_figures import against, format_value, label_of, pareto
from workflow.worker.redact import with_shown_urls

SHOWN = (("pass_rate", "{:.1%}", 1), ("calls", "{:.2f}", 1), ("cost", "{:.3f}", 1000), ("latency", "{:.2f}", 1))
"""Measure, how it is written, and its factor (cost: dollars per 1000 queries)."""


@dataclass(frozen=True)
class SetupRow:
    """One line of the table of configurations, as texts."""

    name: str
    seeds: int
    measures: list[tuple[str, str]]
    """Mean and interval of each measure."""
    on_front: bool


@dataclass(frozen=True)
class EffectRow:
    """What one setting changes from its first to its last value."""

    setting: str
    change: str
    measures: list[tuple[str, str]]


def write_sweep_report(folder: Path, out: Path | None = None) -> Path:
    """Writes the report of a sweep folder and returns its path.

    Raises:
        ValueError: no trial of it has begun.
    """
    file = out or folder / "report.html"
    file.write_text(render(read_sweep(folder), file.parent), encoding="utf-8")
    return file


def render(sweep: SweepData, place: Path) -> str:
    """The page as HTML without any outside asset; ``place`` is its folder, from which it links to the trials' reports."""
    rows = setup_rows(sweep)
    figures = [(name, Markup(svg)) for name in sweep.swept if (svg := against(sweep, name))]
    return template("sweep.html.jinja").render(
        title=sweep.path.resolve().name,
        about=[line for line in about(sweep.config) if not line.startswith("Seed")],
        cards=cards(sweep),
        seeds=sweep.seeds,
        problems=max((len(trial.measure("pass_rate")) for setup in sweep.setups for trial in setup.trials), default=0),
        weights=any(name.startswith("reward.weights.") for name in sweep.swept),
        effects=[effect for name in sweep.swept if (effect := effect_row(sweep, name))],
        setups=rows,
        numbered=len(sweep.swept) > 1,
        figures=figures,
        pareto=Markup(pareto(sweep)),
        trials=[(trial, _link(sweep.path / trial.name, place)) for trial in sweep.trials],
        config=with_shown_urls(yaml.safe_dump(sweep.config, sort_keys=False, allow_unicode=True)),
    )


def cards(sweep: SweepData) -> list[Card]:
    """The headline numbers."""
    done = [trial for trial in sweep.trials if trial.row is not None]
    out = [
        Card(
            f"{len(done)} of {len(sweep.trials)}", "trials finished", f"{len(sweep.setups)} configurations, up to {sweep.seeds} seeds each"
        )
    ]
    if not sweep.setups:
        return out

    def named(setup: Setup) -> str:
        return label_of(setup, sweep.swept, always_named=True) or "all trials"

    best = max(sweep.setups, key=lambda setup: setup.estimates["pass_rate"].mean)
    least = min(sweep.setups, key=lambda setup: setup.estimates["calls"].mean)
    out.append(
        Card(
            f"{best.estimates['pass_rate'].mean:.1%}", "queries solved at most", f"{named(best)}; {best.estimates['calls'].mean:.2f} calls"
        )
    )
    out.append(
        Card(
            f"{least.estimates['calls'].mean:.2f}",
            "worker calls at least",
            f"{named(least)}; {least.estimates['pass_rate'].mean:.1%} solved",
        )
    )
    return out


def setup_rows(sweep: SweepData) -> list[SetupRow]:
    """Configurations in the order of their values."""
    best = front([(setup.estimates["calls"].mean, setup.estimates["pass_rate"].mean) for setup in sweep.setups])
    return [
        SetupRow(
            format_name(index, label_of(setup, sweep.swept, always_named=True) or "all trials", sweep),
            len(setup.trials),
            [_texts(setup.estimates[measure], form, scale) for measure, form, scale in SHOWN],
            index in best,
        )
        for index, setup in enumerate(sweep.setups)
    ]


def format_name(index: int, label: str, sweep: SweepData) -> str:
    """A configuration's name with the number that figures give it, where they do."""
    return f"{index + 1}: {label}" if len(sweep.swept) > 1 else label


def effect_row(sweep: SweepData, setting: str) -> EffectRow | None:
    """The change of each measure from the setting's first to its last value, all else pooled; None without two values.

    For a weight below 0 the first value is the weakest penalty. Seeds and problems are resampled alike on both sides.
    """
    with_it = [setup for setup in sweep.setups if setting in setup.values]
    values = sorted({setup.values[setting] for setup in with_it}, key=lambda value: order([value]))
    if len(values) < 2 or any(isinstance(value, str) for value in values):
        return None
    if values[-1] <= 0:  # pyright: ignore[reportOperatorIssue]
        values.reverse()
    ends = [
        Setup({}, sorted((trial for setup in with_it if setup.values[setting] == value for trial in setup.trials), key=_by_seed))
        for value in (values[0], values[-1])
    ]
    measures = []
    for measure, form, scale in SHOWN:
        differences = ends[1].samples(measure) - ends[0].samples(measure)
        mean = ends[1].estimates[measure].mean - ends[0].estimates[measure].mean
        low, high = (float(bound) for bound in np.percentile(differences, [2.5, 97.5]))
        signed = form.replace("{:", "{:+").replace("%}", "f} pts")
        measures.append(_texts(Estimate(mean, low, high), signed, 100 if measure == "pass_rate" else scale))
    return EffectRow(setting, f"{format_value(values[0])} to {format_value(values[-1])}", measures)


def _by_seed(trial: TrialData) -> list[tuple[bool, float, str]]:
    return order([trial.values.get(SEED, 0.0)])


def _texts(estimate: Estimate, form: str, scale: float) -> tuple[str, str]:
    low, high = form.format(estimate.low * scale), form.format(estimate.high * scale)
    return form.format(estimate.mean * scale), f"{low} to {high}"


def _link(run_dir: Path, place: Path) -> str:
    report = run_dir / "report.html"
    return os.path.relpath(report, place) if report.is_file() else ""
