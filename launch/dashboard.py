"""``python -m launch.dashboard [FOLDER]``: a W&B workspace with a section for each family of metrics.

With a W&B key the workspace is saved to the project, else (or with ``--out``) its spec is written as a file. With the folder of a
run or a sweep every metric of its runs gets a panel; without one the families are matched by their names.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from wandb_workspaces import workspaces
from wandb_workspaces.reports.v2 import interface as panels

from launch.report.sweep_data import is_sweep, read_sweep
from launch.shell import one_sentence_errors
from trainer.run.jsonl import read_rows
from trainer.run.panels import GRPO_STEP, PANELS, STEPS, Panel, family
from trainer.run.settings import LoggerSettings
from trainer.run.sinks import has_wandb_key
from trainer.settings import RunSettings

LABELS = ("stage", "step", "policy", "worker")
"""Columns of metrics.jsonl that are no metrics."""
TOGETHER = {
    "outcome": ("How episodes ended", "stacked-area"),
    "idle": ("Share of the step with nothing to do", "line"),
}
"""Families that are drawn in one panel, with its title and kind."""
PARTS_APART = ("reward/mean", "reward/std")
RESULT = "result/grpo_policy"


def workspace(entity: str, project: str, metrics: Sequence[str], swept: Sequence[str] = ()) -> workspaces.Workspace:
    """The workspace: validation first, then what explains it, final results and sweeps last.

    Args:
        metrics: names that runs have; without any, each family is one panel that matches its names.
        swept: settings to be related to the results.
    """
    known = {name for panel in PANELS for name in panel.families}
    others = tuple(dict.fromkeys(family(name) for name in metrics if family(name) not in known))
    rows = [*PANELS, Panel("Other metrics", others, GRPO_STEP, by_default=False)] if others else [*PANELS]
    sections = [section(row, metrics) for row in rows if not metrics or any(family(name) in row.families for name in metrics)]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name="FlowReasoner",
        sections=[*sections, samples(), results(swept)],
        settings=workspaces.WorkspaceSettings(smoothing_type="exponentialTimeWeighted", smoothing_weight=0, max_runs=20),
    )


def section(row: Panel, metrics: Sequence[str]) -> workspaces.Section:
    """One section: a panel for each metric of its families, parts of a whole in one."""
    drawn: list[Any] = []
    for name in row.families:
        own = sorted(metric for metric in metrics if family(metric) == name)
        if not own:
            drawn += [_matching(name, row.step)] if name == "alarm" or not metrics else []  # an alarm may come yet
        elif name in TOGETHER:
            title, kind = TOGETHER[name]
            drawn.append(panels.LinePlot(title=title, x=row.step, y=own, plot_type=kind))  # pyright: ignore[reportArgumentType]
        elif name == "reward":
            drawn += [_line(metric, row.step) for metric in PARTS_APART if metric in own]
            parts: list[Any] = [metric for metric in own if metric not in PARTS_APART]
            drawn.append(panels.LinePlot(title="Parts of the reward (unweighted)", x=row.step, y=parts))
        else:
            drawn += [_line(metric, STEPS.get(metric, row.step)) for metric in own]
    return workspaces.Section(name=row.title, panels=drawn, is_open=row.by_default)


def samples() -> workspaces.Section:
    """Episodes as the policy wrote them."""
    table = panels.WeavePanelSummaryTable(table_name="samples/episodes", layout=panels.Layout(w=24, h=12))
    return workspaces.Section(name="Episodes", panels=[table], is_open=False)


def results(swept: Sequence[str]) -> workspaces.Section:
    """The final table, and how the settings of a sweep relate to it."""
    measures = {name: panels.SummaryMetric(f"{RESULT}/{name}") for name in ("pass_rate", "calls", "cost", "latency")}
    columns = [panels.ParallelCoordinatesPlotColumn(metric) for metric in (*map(panels.Config, swept), *measures.values())]
    drawn = [
        panels.ScatterPlot(title="Pass rate against worker calls", x=measures["calls"], y=measures["pass_rate"]),
        panels.ScatterPlot(title="Pass rate against cost", x=measures["cost"], y=measures["pass_rate"]),
        *(panels.BarPlot(title=f"{name} of the trained policy", metrics=[metric]) for name, metric in measures.items()),
        panels.ParallelCoordinatesPlot(title="Settings and results", columns=columns),
        panels.WeavePanelSummaryTable(table_name="result/table", layout=panels.Layout(w=24, h=10)),
    ]
    return workspaces.Section(name="Final results and sweeps", panels=drawn, is_open=True)


def _line(metric: str, step: str) -> Any:
    return panels.LinePlot(title=metric, x=step, y=[metric])


def _matching(name: str, step: str) -> Any:
    return panels.LinePlot(title=name, x=step, metric_regex=f"^{name}/.*")


def metrics_of(folder: Path) -> list[str]:
    """Names of all metrics that the run (or the runs of the sweep) in a folder has logged.

    Raises:
        ValueError: it holds no metrics.
    """
    files = [folder / "metrics.jsonl", *sorted(folder.glob("*/metrics.jsonl"))]
    names = dict.fromkeys(name for file in files for row in read_rows(file) for name in row if name not in LABELS)
    if not names:
        raise ValueError(f"{folder} holds no metrics.jsonl: give the folder of a run or of a sweep, or none.")
    return sorted(names)


def swept_settings(folder: Path | None) -> list[str]:
    """Settings in which the trials of a sweep differ; of a run, and without a folder, the weights of the reward."""
    if folder is not None and is_sweep(folder):
        return read_sweep(folder).swept
    config = yaml.safe_load((folder / "config.yaml").read_text()) if folder is not None else RunSettings().model_dump(mode="json")
    return [f"reward.weights.{name}" for name in config["reward"]["weights"]]


def _project(folder: Path | None) -> str:
    """The W&B project of the runs in a folder; the declared default without one."""
    files: Iterable[Path] = [] if folder is None else [folder / "config.yaml", *sorted(folder.glob("*/config.yaml"))]
    for file in files:
        if file.is_file():
            config: Mapping[str, Any] = yaml.safe_load(file.read_text())
            return str(config["logger"]["wandb_project"])
    return LoggerSettings().wandb_project


@one_sentence_errors
def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m launch.dashboard", description="Make a W&B workspace for FlowReasoner's metrics.")
    parser.add_argument("folder", type=Path, nargs="?", help="run or sweep folder whose metrics get panels (default: panels by family)")
    parser.add_argument("--project", help="W&B project (default: the runs' own, else flowreasoner)")
    parser.add_argument("--entity", help="W&B user or team (default: the key's)")
    parser.add_argument("--out", type=Path, help="write the workspace's spec to this file and save nothing to W&B")
    options = parser.parse_args()
    metrics, swept = metrics_of(options.folder) if options.folder else [], swept_settings(options.folder)
    project = options.project or _project(options.folder)
    if options.out is None and has_wandb_key():
        from trainer.run.wandb_sink import default_entity

        made = workspace(options.entity or default_entity(), project, metrics, swept)
        made.save()
        print(f"Workspace: {made.url}")
        return 0
    out = options.out or (options.folder or Path()) / "dashboard.json"
    out.write_text(json.dumps(workspace(options.entity or "", project, metrics, swept)._spec, indent=1))
    print(f"{'Spec' if options.out else 'No W&B key (WANDB_API_KEY or `wandb login`): spec'} of the workspace: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
