"""An offline W&B run, read back from its file, is the run: every metric, the samples, the alerts, the final table."""

import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.run_factory import final_rows, settings
from tests.wandb_file import history, records
from trainer.run.console import RunConsole
from trainer.run.folder import RunFolder
from trainer.run.jsonl import read_rows
from trainer.run.panels import GRPO_STEP, STEPS
from trainer.run.settings import LoggerSettings

LABELS = ("stage", "step", "policy", "worker")
SENTENCE = "ALARM drift: actor/kl is 2 over 5 steps, above 1: the policy runs away."


def opened(path: Path, **logger: Any) -> RunFolder:
    values = settings(path).model_copy(update={"logger": LoggerSettings(wandb="offline", **logger)})
    return RunFolder.open(values, RunConsole("test", Console(file=StringIO())))


def metrics(step: int) -> dict[str, float]:
    """One value for each family, of every size and with more digits than are kept."""
    values = {
        f"{family}/value": math.sin(step + number) * 10 ** (number % 7 - 3)
        for number, family in enumerate(STEPS)
        if STEPS[family] == GRPO_STEP
    }
    return values | {"reward/none": math.nan, "spend/dollars": 1e-7, "new_family/x": 1.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    with opened(tmp_path_factory.mktemp("wandb") / "run", wandb_group="sweep", wandb_episodes=3, wandb_artifacts="policy") as folder:
        for step in range(2):
            folder.log("sft", step, {"sft/loss": 2.0 / (step + 1), "time/sft_step_s": 0.1}, total=2)
        for step in range(30):
            rows = [_episode(step, number) for number in range(12)]
            folder.sinks.episodes(step, rows)
            folder.log("grpo", step, metrics(step), total=30, alarms=[SENTENCE] if step == 4 else [])
        folder.policy.mkdir()
        (folder.policy / "model.safetensors").write_bytes(b"x" * 100)
        folder.mark_done("grpo")
        folder.write_results(final_rows())
    return folder


def _episode(step: int, number: int) -> dict[str, Any]:
    return {
        "step": step, "id": f"{step}/{number}", "problem": "p", "level": 1, "outcome": "passed",
        "score": {"total": number / 10}, "runs": [{"calls": number}], "text": f"plan {number} " + "x" * 4000,
    }  # fmt: skip


def wandb_file(run: RunFolder) -> Path:
    return next((run.path / "wandb").glob("offline-run-*/*.wandb"))


def of_kind(run: RunFolder, kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records(wandb_file(run)) if record.WhichOneof("record_type") == kind]


def test_every_metric_of_metrics_jsonl_is_in_the_run_and_nothing_else(run: RunFolder):
    logged = [row for row in history(wandb_file(run)) if any(name.endswith("/step") for name in row)]
    kept = read_rows(run.path / "metrics.jsonl")
    assert len(logged) == len(kept) == 32
    for row, original in zip(logged, kept, strict=True):
        assert row.pop(f"{original['stage']}/step") == original["step"]
        values = {name: value for name, value in row.items() if not name.startswith("samples/")}
        assert {name: None if math.isnan(value) else value for name, value in values.items()} == {
            name: value for name, value in original.items() if name not in LABELS
        }


def test_each_family_is_drawn_over_its_own_steps(run: RunFolder):
    defined = {record.name or record.glob_name: record.step_metric for record in of_kind(run, "metric")}
    for family, step in STEPS.items():
        assert defined[family if "/" in family else f"{family}/*"] == step
    assert defined["new_family/*"] == "grpo/step"


def test_the_run_has_the_folders_id_its_group_and_its_job_type(run: RunFolder):
    record = of_kind(run, "run")[0]
    assert (record.run_id, record.run_group, record.job_type, record.display_name) == (run.state.run_id, "sweep", "trial", "run")


def test_samples_are_bounded_and_range_from_the_worst_to_the_best(run: RunFolder):
    rows = [row for row in history(wandb_file(run)) if "samples/episodes/path" in row]
    assert [row["grpo/step"] for row in rows] == [0, 20]
    table = json.loads((wandb_file(run).parent / "files" / rows[0]["samples/episodes/path"]).read_text())
    assert [row[table["columns"].index("reward")] for row in table["data"]] == [0.0, 0.6, 1.1]


def test_an_alarm_is_an_alert_and_the_policy_an_artifact(run: RunFolder):
    (alert,) = of_kind(run, "alert")
    assert (alert.title, alert.level) == ("ALARM drift", "WARN") and alert.text == f"Step 5: {SENTENCE}"
    (artifact,) = [record for record in of_kind(run, "artifact") if record.type == "policy"]
    assert [entry.path for entry in artifact.manifest.contents] == ["model.safetensors"]


def test_the_final_table_is_a_table_and_summary_values(run: RunFolder):
    summary = {item.key: json.loads(item.value_json) for record in of_kind(run, "summary") for item in record.update if item.key}
    assert (summary["result/grpo_policy/pass_rate"], summary["result/best_reference_per_level/calls"]) == (0.853, 2.46)
    assert summary["result/grpo_policy/terms/politeness"] == 1.5
    assert not any(name.startswith("result/debate") for name in summary)  # fixed workflows are in the table
    row = next(row for row in history(wandb_file(run)) if "result/table/path" in row)
    assert row["result/table/nrows"] == len(final_rows())


def test_a_resumed_run_goes_on_under_the_same_id(tmp_path: Path):
    for step in range(2):
        with opened(tmp_path / "run") as folder:
            folder.log("grpo", step, {"reward/mean": 0.5}, total=2)
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2 and {file.stem for file in files} == {f"run-{folder.state.run_id}"}


def test_nothing_is_kept_as_an_artifact_unless_asked_for(tmp_path: Path):
    with opened(tmp_path / "run") as folder:
        folder.policy.mkdir()
        folder.mark_done("grpo")
    assert of_kind(folder, "artifact") == []
