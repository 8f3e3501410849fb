"""launch.dashboard: a section for each family, every metric in one, and a spec where there is no key."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from launch.dashboard import metrics_of, swept_settings, workspace
from tests.run_factory import write_run
from tests.sweep_factory import write_sweep
from trainer.run.panels import PANELS


def sections(spec: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found = spec["spec"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: [panel["config"] for panel in section["panels"] if "config" in panel] for section in found}


def test_every_metric_of_a_run_has_a_panel_in_its_familys_section(tmp_path: Path):
    metrics = [*metrics_of(write_run(tmp_path / "run", steps=30)), "strange/thing"]
    made = sections(workspace("team", "project", metrics)._spec)
    drawn = {metric for panels in made.values() for panel in panels for metric in panel.get("metrics", [])}
    assert set(metrics) <= drawn
    assert [panel["metrics"] for panel in made["Other metrics"]] == [["strange/thing"]]
    assert all(panel["xAxis"] == "sft/step" for panel in made["Supervised fine-tuning"])
    assert all(panel["xAxis"] == "grpo/step" for panel in made["Reward and its parts"])


def test_the_results_are_related_to_what_a_sweep_varies_and_to_all_weights_of_a_run(tmp_path: Path):
    assert swept_settings(write_sweep(tmp_path / "sweep")) == ["reward.weights.complexity"]
    weights = swept_settings(write_run(tmp_path / "run", steps=1))
    assert {"reward.weights.performance", "reward.weights.my_terms:politeness"} < set(weights)
    (drawn,) = [
        panel for panel in sections(workspace("team", "project", [], weights)._spec)["Final results and sweeps"] if "columns" in panel
    ]
    assert len(drawn["columns"]) == len(weights) + 4


def test_without_a_run_each_family_is_matched_by_its_name():
    made = sections(workspace("team", "project", [])._spec)
    assert {panel.title for panel in PANELS} < set(made)
    assert [panel["metricRegex"] for panel in made["Outcomes"]] == ["^outcome/.*", "^tests/.*"]


def test_without_a_key_the_spec_is_written_as_a_file(tmp_path: Path):
    run = write_run(tmp_path / "run", steps=2)
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_API_KEY"} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-m", "launch.dashboard", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0 and "No W&B key" in done.stdout, done.stderr
    spec = json.loads((run / "dashboard.json").read_text())
    assert (spec["project"], spec["displayName"]) == ("flowreasoner", "FlowReasoner") and sections(spec)
