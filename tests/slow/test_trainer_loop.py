"""The GRPO loop with a scripted policy and a scripted learner: order of events, overlap, spending, resume."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from rich.console import Console

from reward.settings import RewardSettings
from rollout.fleet.health import EngineHealth
from rollout.fleet.publishing import Published
from rollout.groups.collect import Collector
from rollout.records import Completion
from rollout.settings import RolloutSettings
from sandbox.records import Run
from tests.run_factory import settings as run_settings
from tests.scripted_parts import SINGLE_CALL, TEST_LOOP, ScriptedRenderer, ScriptedRunner, problem, run
from trainer.algorithm.batch import PolicyBatch
from trainer.failures import Failures
from trainer.loop import train_grpo
from trainer.run.console import RunConsole
from trainer.run.folder import RunFolder
from trainer.run.jsonl import read_rows
from trainer.run.settings import CheckpointSettings
from trainer.run.sinks import Opening, Sink, StopTraining
from trainer.settings import EvaluationSettings, GRPOSettings
from workflow.outcome import Outcome

PROBLEMS = [problem(number) for number in range(7)]


class Policy:
    """Engines and learner in one: completions carry the version that was published last."""

    def __init__(self, sample_s: float = 0.0, update_s: float = 0.0, save_s: float = 0.0) -> None:
        self.version = -1
        self.sample_s, self.update_s, self.save_s = sample_s, update_s, save_s
        self.updating = False
        self.events: list[str] = []
        self.trained: list[int] = []
        self.saved: list[str] = []

    async def sample(
        self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int, sticky: int | None = None
    ) -> list[Completion]:
        version = self.version
        self.events.append(f"sample {version}")
        await asyncio.sleep(self.sample_s)
        texts = [SINGLE_CALL, TEST_LOOP]
        return [Completion(texts[index % 2], (5, 6, 7), (-0.1, -0.2, -0.3), version, "stop") for index in range(n)]

    async def publish(self, version: int, weights: Any) -> Published:
        self.version = version
        self.events.append(f"publish {version}")
        return Published(version, 2**20, 1, 0.01, (0.01,), ())

    def health(self) -> list[EngineHealth]:
        return [EngineHealth(self.version, 0, 0.0, 100, 0.5, 0.2, 0)]

    async def weights(self) -> str:
        return "weights"

    async def update(self, batch: PolicyBatch, grpo: GRPOSettings) -> dict[str, float]:
        self.updating = True
        await asyncio.sleep(self.update_s)
        self.updating = False
        self.trained.append(len(batch.rows))
        self.events.append("update")
        return {"actor/kl": 0.0}

    async def save(self, folder: Path) -> None:
        self.saved.append(folder.name)
        assert not self.updating
        await asyncio.sleep(self.save_s)
        self.events.append("saved")

    async def load(self, folder: Path) -> None:
        self.events.append(f"load {folder.name}")


def outcome(workflow, one, seed) -> Run:
    return run(Outcome.PASSED, passed=4, calls=1) if workflow.loops else run(Outcome.WRONG_ANSWER, passed=1, calls=1)


async def train(
    tmp_path: Path,
    policy: Policy,
    *,
    steps: int = 4,
    first: int = 0,
    collected=None,
    refill: int = 0,
    grpo: dict[str, Any] | None = None,
    sinks: tuple[str, ...] = (),
    **trainer,
) -> list[dict[str, Any]]:
    """Runs the loop in a folder; returns its metrics rows."""
    settings = run_settings(
        tmp_path / "run",
        grpo=GRPOSettings(steps=steps, problems_per_step=3, refill=refill, **grpo or {}),
        evaluation=EvaluationSettings(every_steps=0),
        **{"checkpoint": CheckpointSettings(every_steps=100)} | trainer,
    )
    settings = settings.model_copy(update={"logger": settings.logger.model_copy(update={"sinks": sinks})})
    rollout = RolloutSettings(group_size=2, runs_per_workflow=1)
    runner = ScriptedRunner(outcome)
    collector = Collector(policy, runner, ScriptedRenderer(), rollout, RewardSettings(), seed=1)
    parts = (collector, cast(Any, policy), cast(Any, policy))
    with RunFolder.open(settings, RunConsole("test", Console(file=StringIO()))) as folder:
        try:
            await train_grpo(
                *parts,
                folder,
                settings.trainer,
                train=PROBLEMS,
                validation=PROBLEMS,
                first_step=first,
                collected=collected,
                failures=Failures(2),
                max_response_tokens=8,
            )
        finally:
            rows = read_rows(folder.path / "metrics.jsonl")
    return rows


async def test_without_staleness_nothing_is_sampled_between_a_step_and_its_publishing(tmp_path: Path):
    policy = Policy()
    rows = await train(tmp_path, policy)
    step = ["sample {0}", "sample {0}", "sample {0}", "update", "publish {1}"]
    assert policy.events == ["publish 0"] + [event.format(k, k + 1) for k in range(4) for event in step] + ["saved"]
    assert [row["staleness/max"] for row in rows] == [0.0] * 4


async def test_with_staleness_the_next_groups_are_sampled_while_the_learner_updates(tmp_path: Path):
    class Waiting(Policy):
        async def update(self, batch: PolicyBatch, grpo: GRPOSettings) -> dict[str, float]:
            """Ends only once all groups of the next step have been sampled, which without overlap would never be."""
            wanted = min(3 * (self.version + 2), 3 * 6)
            async with asyncio.timeout(60):
                while self.events.count("sampled") < wanted:
                    await asyncio.sleep(0.001)
            return await super().update(batch, grpo)

        async def sample(self, *args: Any, **kwargs: Any) -> list[Completion]:
            done = await super().sample(*args, **kwargs)
            self.events.append("sampled")
            return done

    rows = await train(tmp_path, Waiting(), steps=6, max_staleness=1)
    assert [row["staleness/max"] for row in rows] == [0.0] + [1.0] * 5
    assert all(0 <= row[f"idle/{name}"] <= 1 for row in rows for name in ("engines", "sandboxes", "learner"))


async def test_every_episode_is_logged_once_whatever_the_overlap(tmp_path: Path):
    await train(tmp_path, Policy(sample_s=0.005), steps=5, max_staleness=2, late_share=0.4)
    ids = [row["id"] for row in read_rows(tmp_path / "run" / "episodes.jsonl")]
    assert len(ids) == len(set(ids)) == 5 * 3 * 2


async def test_a_group_that_was_replaced_is_logged_and_paid_for_but_not_learnt(tmp_path: Path):
    class Repeating(Policy):
        asked = 0

        async def sample(self, *args: Any, **kwargs: Any) -> list[Completion]:
            self.asked += 1
            flat = self.asked <= 2  # both episodes of the first two groups are the same
            first, second = await super().sample(*args, **kwargs)
            return [first, first if flat else second]

    policy = Repeating()
    first, second = await train(tmp_path, policy, steps=2, refill=5)
    assert policy.trained == [6, 6]
    assert (first["stream/replaced"], first["stream/flat"], second["stream/replaced"]) == (2, 0, 0)
    assert first["reward/zero_variance_groups"] == pytest.approx(2 / 5)
    assert first["spend/dollars"] == pytest.approx((2 * 1 + 3 * 2) * 0.001)  # equal siblings share a run
    rows = [row["id"] for row in read_rows(tmp_path / "run" / "episodes.jsonl") if row["step"] == 0]
    assert len(rows) == len(set(rows)) == 5 * 2


async def test_the_kl_is_taken_off_the_rewards_against_the_reference(tmp_path: Path):
    class WithReference(Policy):
        async def logprobs(self, rows: Any, *, temperature: float, reference: bool) -> torch.Tensor:
            assert reference and temperature == 1.0
            self.events.append("reference")
            return torch.full(rows.loss_mask_BT.shape, -1.0)

        async def update(self, batch: PolicyBatch, grpo: GRPOSettings) -> dict[str, float]:
            sampled_BT = batch.rollout_logprobs_BT * batch.rows.loss_mask_BT
            assert batch.kl == pytest.approx(float((sampled_BT.sum() + batch.rows.loss_mask_BT.sum()) / batch.rows.loss_mask_BT.sum()))
            return await super().update(batch, grpo)

    policy = WithReference()
    await train(tmp_path, policy, steps=2, grpo={"kl_in": "reward", "kl_kind": "k1", "kl_coef": 0.1})
    assert policy.events.count("reference") == 2 and policy.trained == [6, 6]


async def test_a_problem_that_was_flat_is_skipped_before_anything_is_sampled(tmp_path: Path):
    class Same(Policy):
        async def sample(self, *args: Any, **kwargs: Any) -> list[Completion]:
            first, _ = await super().sample(*args, **kwargs)
            return [first, first]

    policy = Same()
    rows = await train(tmp_path, policy, steps=12, grpo={"skip_flat": 0.9})
    assert policy.trained == [] and sum(row["stream/skipped"] for row in rows) > 0 == rows[0]["stream/skipped"]
    assert all(row["stream/flat"] == 3 for row in rows)


async def test_a_run_that_would_overspend_pauses_with_what_it_collected_ahead(tmp_path: Path):
    policy = Policy()
    with pytest.raises(ValueError, match=r"trainer.max_dollars=0.02 is nearly spent"):
        await train(tmp_path, policy, steps=50, max_staleness=1, max_dollars=0.02)
    assert policy.saved and len(policy.trained) == 2  # 0.006 dollars a step, one step collected ahead


class StopsAfterTwo(Sink):
    """Wishes the end of training while it reads the episodes of the second step."""

    def __init__(self, opening: Opening) -> None: ...

    def episodes(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        if step == 1:
            raise StopTraining("enough")


@pytest.mark.parametrize("max_staleness", [0, 1])
async def test_a_sink_ends_training_with_a_logged_step_and_its_checkpoint(tmp_path: Path, max_staleness: int):
    policy = Policy()
    rows = await train(tmp_path, policy, steps=9, sinks=(f"{__name__}:StopsAfterTwo",), max_staleness=max_staleness)
    assert [row["step"] for row in rows] == [0, 1] and len(policy.trained) == 2
    assert [folder.name for folder in (tmp_path / "run" / "checkpoints").glob("step_*")] == ["step_000002"]


async def test_a_checkpoint_holds_the_groups_that_were_collected_ahead(tmp_path: Path):
    from trainer.run.stream_file import read_stream

    policy = Policy()
    with pytest.raises(ValueError, match="nearly spent"):
        await train(tmp_path, policy, steps=9, max_staleness=1, max_dollars=0.02)
    (folder,) = (tmp_path / "run" / "checkpoints").glob("step_*")
    state = read_stream(folder)
    step = int(folder.name.removeprefix("step_"))
    assert [ready.position for ready in state.ready] == [3 * step, 3 * step + 1, 3 * step + 2] and not state.under_way
    again = Policy()
    await train(tmp_path / "again", again, steps=step + 1, first=step, collected=state, max_staleness=1)
    assert "sample" not in " ".join(again.events)  # the last step needs nothing but what had been collected


async def test_a_checkpoint_is_written_while_groups_are_collected_and_before_the_next_update(tmp_path: Path):
    policy = Policy(sample_s=0.03, save_s=0.01)
    await train(tmp_path, policy, steps=3, checkpoint=CheckpointSettings(every_steps=1))
    steps = [[f"sample {k}"] * 3 + ["saved"] * (k > 0) + ["update", f"publish {k + 1}"] for k in range(3)]
    assert policy.events == ["publish 0", *(event for step in steps for event in step), "saved"]


async def test_groups_of_an_unreadable_checkpoint_file_are_collected_again(tmp_path: Path):
    from rollout.groups.stream import StreamState
    from trainer.run.stream_file import GROUPS, read_stream, write_stream

    state = StreamState(9, (), (7, 8), {"p/1": 2})
    write_stream(tmp_path, state)
    assert read_stream(tmp_path) == state
    (tmp_path / GROUPS).write_bytes(b"torn")
    assert read_stream(tmp_path) == state


def down(workflow, one, seed) -> Run:
    return run(Outcome.INFRA_ERROR)


async def test_steps_of_which_nothing_can_be_judged_end_the_run_with_its_state_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules[__name__], "outcome", down)
    policy = Policy()
    with pytest.raises(RuntimeError, match=r"Judging episodes failed 2 times in a row \(trainer.max_failures=2\).* all 6 of step 2 masked"):
        await train(tmp_path, policy, steps=9)
    assert policy.saved == ["step_000002.partial"] and not policy.trained


async def test_in_deterministic_mode_no_group_is_under_way_while_weights_are_published(tmp_path: Path):
    class Slow(Policy):
        async def publish(self, version: int, weights: Any) -> Published:
            self.events.append(f"under way {self.events.count('begun') - self.events.count('ended')}")
            return await super().publish(version, weights)

        async def sample(self, *args: Any, **kwargs: Any) -> list[Completion]:
            self.events.append("begun")
            await asyncio.sleep(0.02)
            done = await super().sample(*args, **kwargs)
            self.events.append("ended")
            return done

    policy = Slow()
    await train(tmp_path, policy, steps=4, max_staleness=1, deterministic=True)
    assert [event for event in policy.events if event.startswith("under way")] == ["under way 0"] * 5
