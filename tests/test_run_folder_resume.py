"""A run folder: what a second session finds, what it may change, what it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from rich.console import Console

from reward.score import Score
from rollout.groups.stream import StreamState
from rollout.records import Completion, Episode, Group, Round
from rollout.traces import TeacherRound, Trace
from sandbox.records import Execution, OperatorCall, Run, Verdict
from tests.run_factory import settings
from trainer.metrics.spending import Spending
from trainer.run.checkpoints import whole_checkpoints
from trainer.run.console import RunConsole
from trainer.run.folder import RunFolder
from trainer.run.jsonl import read_rows
from trainer.run.settings import CheckpointSettings
from trainer.run.state import changes, may_change
from trainer.settings import EvaluationSettings, GRPOSettings, RunSettings
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.settings import MAY_CHANGE


class ScriptedLearner:
    """Saves and restores one text."""

    def __init__(self, weights: str = "") -> None:
        self.weights = weights

    async def save(self, folder: Path) -> None:
        (folder / "weights").write_text(self.weights)

    async def load(self, folder: Path) -> None:
        self.weights = (folder / "weights").read_text()


STREAM = StreamState(12, (), (9, 11))


def opened(run: RunSettings) -> RunFolder:
    return RunFolder.open(run, RunConsole("test", Console(file=StringIO(), width=200)))


def printed(folder: RunFolder) -> str:
    out = folder.console.console.file
    assert isinstance(out, StringIO)
    return out.getvalue()


def saved(run: RunFolder) -> list[int]:
    return list(whole_checkpoints(run.path / "checkpoints"))


def group(step: int) -> Group:
    problem = Problem("nano/train/1", "Write f(xs)", "f", (), ("assert f([]) == []",), level=3)
    completion = Completion("Plan.\n```python\nclass Workflow: ...\n```", (1, 2), (-0.1, -0.2), step, "stop")
    call = OperatorCall(0, "generate", "{}", '"x"', "", 1, 0, 10, 5, 0.001, 0.0, 0.02)
    run = Run(Execution(Outcome.ANSWERED, "x", (call,), "", 0.03, "landlock"), Verdict(Outcome.PASSED, (True,), (), 0.01, "landlock"))
    score = Score(1.0, {"performance": 1.0, "cost": 0.001}, False)
    workflow = Workflow("class Workflow: ...", "abc", ("generate",), 0, 0, 0, 3)
    return Group(problem, (1,), (Episode(f"train-{step}/nano/train/1/0", (Round(completion, workflow, None, (run,)),), 0, score),))


def test_a_folder_explains_itself_from_the_start(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        assert RunSettings.model_validate(yaml.safe_load((run.path / "config.yaml").read_text())) == run.settings


def test_metrics_are_on_disk_before_the_run_ends(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        run.log("grpo", 0, {"reward/mean": 0.5, "actor/kl": float("nan")}, total=2)
        (row,) = read_rows(run.path / "metrics.jsonl")
    assert row == {"stage": "grpo", "step": 0, "policy": "nano", "worker": "simulated-worker", "reward/mean": 0.5, "actor/kl": None}


def test_an_episode_row_keeps_text_score_and_trace(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        run.log_groups(4, [group(4)])
        (row,) = read_rows(run.path / "episodes.jsonl")
    assert (row["step"], row["level"], row["has_examples"], row["outcome"], row["fingerprint"]) == (4, 3, False, "passed", "abc")
    assert row["score"]["total"] == 1.0 and row["runs"][0]["isolation"] == "landlock"
    (call,) = row["runs"][0]["trace"]
    assert (call["operator"], call["tokens"], call["latency_s"], call["reply"]) == ("generate", [10, 5], 0.02, '"x"')


def test_finished_stages_are_known_to_the_next_session(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        run.mark_done("distil", passed=7)
    with opened(settings(tmp_path / "run")) as run:
        assert run.is_done("distil") and not run.is_done("sft")


def test_traces_survive_a_crash_in_the_middle_of_a_line(tmp_path: Path):
    trace = Trace(0, "p/1", "Write f", (TeacherRound("Plan\nclass Workflow"),), Outcome.PASSED)
    with opened(settings(tmp_path / "run")) as run:
        run.append_trace(trace)
        with (run.path / "traces.jsonl").open("a") as out:
            out.write('{"index": 1, "problem')
    with opened(settings(tmp_path / "run")) as run:
        assert run.read_traces() == [trace]
        second = Trace(1, "p/2", "Write g", (TeacherRound("ä ×"),), Outcome.WRONG_ANSWER)
        run.append_trace(second)
        assert run.read_traces() == [trace, second]


def test_traces_keep_their_rounds_and_rows_of_older_runs_have_one(tmp_path: Path):
    rounds = (TeacherRound("class Workflow", "It is easy.", "stop"), TeacherRound("class Workflow", "Hm.", "stop", "Round 1 of 10: no."))
    trace = Trace(0, "p/1", "Write f", rounds, Outcome.PASSED, kept=1, reward=0.9)
    older = {"index": 1, "problem_id": "p/2", "query": "q", "outcome": "passed"}
    with opened(settings(tmp_path / "run")) as run:
        run.append_trace(trace)
        with (run.path / "traces.jsonl").open("a") as out:
            out.write(json.dumps(older | {"text": "t"}) + "\n")
            out.write(json.dumps(older | {"text": "t", "reasoning": "r", "finish_reason": "stop", "fault": ""}) + "\n")
            out.write(json.dumps(older | {"text": "", "outcome": "infra_error", "fault": "down"}) + "\n")
        assert run.read_traces() == [
            trace,
            Trace(1, "p/2", "q", (TeacherRound("t"),), Outcome.PASSED),
            Trace(1, "p/2", "q", (TeacherRound("t", "r", "stop"),), Outcome.PASSED),
            Trace(1, "p/2", "q", (), Outcome.INFRA_ERROR, fault="down"),
        ]


async def test_a_resumed_run_has_no_row_twice(tmp_path: Path):
    run_settings = settings(tmp_path / "run", checkpoint=CheckpointSettings(every_steps=2))
    with opened(run_settings) as run:
        assert await run.restore(ScriptedLearner()) == (0, None)
        run.log("sft", 0, {"sft/loss": 1.0}, total=1)
        for step in range(5):
            run.log("grpo", step, {"reward/mean": float(step)}, total=8)
            run.log_groups(step, [group(step)])
            if step in (1, 3):
                await run.checkpoints.save(step + 1, ScriptedLearner(f"after {step + 1}"), STREAM)
    with opened(run_settings) as run:
        learner = ScriptedLearner()
        assert await run.restore(learner) == (4, STREAM) and learner.weights == "after 4"
        run.log("grpo", 4, {"reward/mean": 40.0}, total=8)
        rows = read_rows(run.path / "metrics.jsonl")
        assert [(row["stage"], row["step"]) for row in rows] == [("sft", 0), *(("grpo", step) for step in range(5))]
        assert rows[-1]["reward/mean"] == 40.0
        assert [row["step"] for row in read_rows(run.path / "episodes.jsonl")] == [0, 1, 2, 3]


async def test_steps_that_are_done_again_stay_in_the_spending_however_often_the_run_is_killed(tmp_path: Path):
    run_settings = settings(tmp_path / "run", checkpoint=CheckpointSettings(every_steps=2))
    for last in (4, 3):  # killed after that step, twice, without another checkpoint
        folder = opened(run_settings)
        learner = ScriptedLearner()
        first, _ = await folder.restore(learner)
        for step in range(first, last + 1):
            folder.log("grpo", step, {"spend/dollars": 0.25}, total=8)
            if step == 1:
                await folder.checkpoints.save(2, learner, STREAM)
        os.close(folder._lock)  # as a kill leaves it: nothing is closed
    with opened(run_settings) as run:
        assert (await run.restore(ScriptedLearner()))[0] == 2
        assert Spending(run.path, None, run.rows("grpo"), run.state.rolled_back_dollars).dollars == pytest.approx((2 + 3 + 2) * 0.25)
        assert run.state.tracked == {"grpo": 4}
    assert json.loads((run.path / "state.json").read_text())["rolled_back_dollars"] == pytest.approx(5 * 0.25)


async def test_only_the_newest_checkpoints_are_kept(tmp_path: Path):
    with opened(settings(tmp_path / "run", checkpoint=CheckpointSettings(keep=2))) as run:
        for step in (20, 40, 60):
            await run.checkpoints.save(step, ScriptedLearner(str(step)), STREAM)
        assert saved(run) == [40, 60]


async def test_a_half_written_checkpoint_is_not_resumed(tmp_path: Path):
    class Failing(ScriptedLearner):
        async def save(self, folder: Path) -> None:
            await super().save(folder)
            raise OSError(28, "No space left on device")

    with opened(settings(tmp_path / "run")) as run:
        await run.checkpoints.save(20, ScriptedLearner("good"), STREAM)
        await run.checkpoints.save(40, Failing("bad"), STREAM)
        assert "CHECKPOINT NOT SAVED (OSError: [Errno 28] No space left on device). The run goes on" in printed(run)
        assert saved(run) == [20]
        assert [item.name for item in (run.path / "checkpoints").iterdir()] == ["step_000020"]


@pytest.mark.parametrize("damage", ["truncated", "missing", "no manifest", "unreadable"])
async def test_a_torn_checkpoint_is_told_and_the_one_before_it_is_taken(tmp_path: Path, damage: str):
    class Reading(ScriptedLearner):
        async def load(self, folder: Path) -> None:
            await super().load(folder)
            if self.weights == "garbage":
                raise RuntimeError("PytorchStreamReader failed")

    with opened(settings(tmp_path / "run")) as run:
        await run.checkpoints.save(20, ScriptedLearner("good"), STREAM)
        await run.checkpoints.save(40, ScriptedLearner("garbage" if damage == "unreadable" else "newer"), STREAM)
        (newest,) = (run.path / "checkpoints").glob("step_000040")
        weights = next(file for file in newest.iterdir() if file.name not in ("manifest.json", "stream.json", "groups.pkl"))
        if damage == "truncated":
            weights.write_bytes(weights.read_bytes()[:-1])
        elif damage == "missing":
            weights.unlink()
        elif damage == "no manifest":
            (newest / "manifest.json").unlink()
    with opened(settings(tmp_path / "run")) as run:
        learner = Reading()
        assert await run.restore(learner) == (20, STREAM) and learner.weights == "good"
        assert "step_000040" in printed(run) and "is skipped" in printed(run)


async def test_the_best_checkpoint_by_validation_is_kept_beside_the_newest(tmp_path: Path):
    with opened(settings(tmp_path / "run", checkpoint=CheckpointSettings(keep=1))) as run:
        for step, score in ((20, 0.5), (40, 0.8), (60, 0.7), (80, None)):
            await run.checkpoints.save(step, ScriptedLearner(str(step)), STREAM, score)
        assert saved(run) == [40, 80]


def test_an_interrupted_sft_begins_anew(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        run.log("sft", 0, {"sft/loss": 3.0}, total=2)
    with opened(settings(tmp_path / "run")) as run:
        run.stage("sft", "again")
        run.log("sft", 0, {"sft/loss": 2.0}, total=2)
        assert [row["sft/loss"] for row in read_rows(run.path / "metrics.jsonl")] == [2.0]


def test_a_changed_setting_that_matters_is_refused_by_name(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        run.mark_done("distil")
    with pytest.raises(ValueError, match=r"trainer\.seed=3 \(was 0\).*new trainer\.run_dir"):
        opened(settings(tmp_path / "run", seed=3))


ENDPOINT = "provider base_url api_key_env headers leave_out check requests_per_minute tokens_per_minute"
FREE = {
    "trainer": "run_dir stages evaluation checkpoint alarms max_dollars max_failures",
    "trainer.grpo": "steps",
    "": "logger cluster sweep",
    "sandbox": "actors slots_per_actor retries verdict_cache_entries",
    "rollout": "engines tensor_parallel request_timeout_s publish_bucket_mib weights_via weights_kept verify_loaded engine_args",
    "learner": "timeout_s micro_batch_tokens nodes gradient_checkpointing offload_optimizer",
    "worker": f"{ENDPOINT} timeout_s max_retries max_concurrency cache_entries",
    "judge": f"{ENDPOINT} timeout_s max_retries max_concurrency cache_entries",
    "distil": f"{ENDPOINT} concurrency timeout_s",
    "simulated": "host port latency faults",
}
"""Of each part of the settings, those that say how a run is done or how long."""


def marked(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        if MAY_CHANGE in field.metadata:
            yield f"{prefix}{name}"
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from marked(field.annotation, f"{prefix}{name}.")


def test_a_resumed_run_may_change_how_it_is_done_and_nothing_that_it_computes():
    assert sorted(marked(RunSettings)) == sorted(f"{part}.{name}".lstrip(".") for part, names in FREE.items() for name in names.split())
    assert may_change("trainer.evaluation.runs") and may_change("rollout.engine_args.max_num_seqs") and may_change("cluster")
    assert not any(may_change(name) for name in ("trainer", "trainer.seed", "trainer.grpo.kl_coef", "reward.weights.calls", "no.such"))


def test_a_run_that_did_nothing_yet_takes_new_settings(tmp_path: Path):
    opened(settings(tmp_path / "run")).close()
    with opened(settings(tmp_path / "run", seed=3)) as run:
        assert yaml.safe_load((run.path / "config.yaml").read_text())["trainer"]["seed"] == 3


def test_more_steps_reopen_grpo_and_evaluation(tmp_path: Path):
    with opened(settings(tmp_path / "run", grpo=GRPOSettings(steps=10))) as run:
        for stage in ("sft", "grpo", "evaluate"):
            run.mark_done(stage)
    with opened(settings(tmp_path / "run", grpo=GRPOSettings(steps=20))) as run:
        assert [stage for stage in ("sft", "grpo", "evaluate") if run.is_done(stage)] == ["sft"]


def test_another_evaluation_reopens_the_evaluation_alone(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        for stage in ("grpo", "evaluate"):
            run.mark_done(stage)
    with opened(settings(tmp_path / "run", evaluation=EvaluationSettings(runs=4))) as run:
        assert run.is_done("grpo") and not run.is_done("evaluate")


def test_results_have_the_steps_and_the_time_of_all_sessions(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        run.log("grpo", 0, {}, total=1)
        run.state.wall_s = 100.0
    with opened(settings(tmp_path / "run")) as run:
        run.write_results([{"name": "GRPO policy", "reward": 0.7}])
        results = json.loads((run.path / "results.json").read_text())
    assert results["steps"] == 1 and 100.0 <= results["wall_s"] < 1000.0 and results["rows"][0]["name"] == "GRPO policy"


def test_held_out_episodes_are_kept_and_begin_anew_with_the_table(tmp_path: Path):
    for _ in range(2):
        with opened(settings(tmp_path / "run")) as run:
            run.begin_held_out()
            run.log_held_out("GRPO policy", [group(0)])
            rows = [json.loads(line) for line in (run.path / "held_out.jsonl").read_text().splitlines()]
            assert len(rows) == len(group(0).episodes) and {row["row"] for row in rows} == {"GRPO policy"}
            assert all("answer" in shown for row in rows for shown in row["runs"])
    quiet = settings(tmp_path / "quiet")
    with opened(quiet.model_copy(update={"logger": quiet.logger.model_copy(update={"episodes": False})})) as run:
        run.log_held_out("GRPO policy", [group(0)])
        assert not (run.path / "held_out.jsonl").exists()


def test_two_processes_cannot_hold_one_folder(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        script = "from pathlib import Path; from trainer.run.lock import hold; hold(Path(__import__('sys').argv[1]))"
        other = subprocess.run([sys.executable, "-c", script, str(run.path)], capture_output=True, text=True, check=False)
        assert f"in use by process {os.getpid()}" in other.stderr


def test_a_closed_folder_can_be_held_again(tmp_path: Path):
    opened(settings(tmp_path / "run")).close()
    opened(settings(tmp_path / "run")).close()


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"trainer\.run_dir=.*cannot be written \(not a directory\)"):
        opened(settings(tmp_path / "file" / "run"))


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"holds other files \(thesis\.tex\)"):
        opened(settings(tmp_path))
    assert sorted(item.name for item in tmp_path.iterdir()) == ["thesis.tex"]


def test_a_damaged_state_is_named(tmp_path: Path):
    opened(settings(tmp_path / "run")).close()
    (tmp_path / "run" / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"state\.json is damaged"):
        opened(settings(tmp_path / "run"))
    opened(settings(tmp_path / "other")).close()


def test_the_console_shows_headers_steps_and_time_left(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        run.stage("grpo", "steps 1 to 2")
        metrics = {
            "reward/mean": 0.61,
            "outcome/passed": 0.7,
            "workflow/valid": 0.96,
            "calls/mean": 2.5,
            "actor/kl": 0.01,
            "time/step_s": 5.0,
        }
        run.log("grpo", 0, metrics, total=2)
        run.mark_done("grpo", steps=2)
        out = printed(run)
    assert "== grpo: steps 1 to 2" in out
    assert "[test] step 1/2  reward 0.610  passed 70%  valid 96%  calls 2.50  kl 0.0100  5.0 s/step  ETA 5 s" in out
    assert "grpo done in 0 s: steps 2" in out


def test_progress_off_a_terminal_is_a_line_now_and_then_and_the_last_one(tmp_path: Path):
    with opened(settings(tmp_path / "run")) as run:
        for done in range(1, 101):
            run.progress("distil", done, 100, f"{done} asked")
        lines = [line for line in printed(run).splitlines() if "distil" in line]
    assert len(lines) <= 3 and "distil 100/100" in lines[-1]


def test_a_weight_of_a_users_own_cannot_come_go_or_change_with_a_resume():
    before = {"reward": {"weights": {"performance": 1.0, "my:words": -0.1}}}
    for weights, changed in (
        ({"performance": 1.0, "my:words": -0.1}, {}),
        ({"performance": 1.0}, {"reward.weights.my:words": (-0.1, 0.0)}),
        ({"performance": 1.0, "my:words": -0.1, "my:lines": 2.0}, {"reward.weights.my:lines": (0.0, 2.0)}),
        ({"performance": 1.0, "my:words": -0.1, "cost": 0.0}, {}),
    ):
        assert changes(before, {"reward": {"weights": weights}}) == changed


def test_a_mapping_that_gains_or_loses_a_name_has_changed():
    def of(args: dict[str, float]) -> dict[str, Any]:
        return {"trainer": {"grpo": {"loss_args": args}}}

    assert changes(of({}), of({"clip_ratio_c": 10.0})) == {"trainer.grpo.loss_args": ({}, {"clip_ratio_c": 10.0})}
    assert changes(of({"tau_pos": 1.0}), of({"tau_neg": 1.0})) and not changes(of({"tau_pos": 1.0}), of({"tau_pos": 1.0}))
    assert not changes({}, of({"tau_pos": 1.0})), "of an earlier version, which had no such setting"
