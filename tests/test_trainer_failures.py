"""What a run survives: failures in a row, a learner that is lost, a state that is saved before the end."""

import asyncio
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest

from rollout.failures import MemoryDeaths, count_memory_kills
from rollout.groups.stream import StreamState
from tests.run_factory import settings as run_settings
from tests.test_run_folder_resume import ScriptedLearner
from trainer.failures import Failures, LearnerLostError
from trainer.recovery import with_learner
from trainer.run.checkpoints import SavedOnError, whole_checkpoints
from trainer.run.console import RunConsole
from trainer.run.folder import RunFolder
from trainer.run.terminal import Terminal
from trainer.stages import refuse_if_all_masked
from workflow.outcome import RunFailedError

STREAM = StreamState(0, (), ())


class Watched:
    """A learner whose ranks die when told to."""

    def __init__(self) -> None:
        self.dead = asyncio.Event()
        self.closed = False

    async def watch(self) -> None:
        await self.dead.wait()
        raise LearnerLostError("a rank died")

    async def close(self) -> None:
        self.closed = True


class Learners:
    """Hands out one learner after another, as ``System`` does."""

    def __init__(self) -> None:
        self.made = [Watched()]
        self.starts: list[Path] = []

    async def learner(self) -> Watched:
        return self.made[-1]

    async def replace_learner(self, start: Path) -> None:
        await self.made[-1].close()
        self.starts.append(start)
        self.made.append(Watched())


async def recovered(tmp_path: Path, learners: Learners, work: Callable[[Any], Any], limit: int = 3) -> str:
    """Runs ``work`` with a learner; what the console says."""
    out = StringIO()
    with RunFolder.open(run_settings(tmp_path / "run"), RunConsole("test", Terminal(file=out, width=300))) as run:
        await with_learner(cast(Any, learners), run, Failures(limit), Path("start"), work)
    return out.getvalue()


async def test_a_learner_that_dies_while_the_work_waits_for_something_else_is_replaced(tmp_path: Path) -> None:
    learners, begun = Learners(), []

    async def work(learner: Watched) -> None:
        begun.append(learner)
        if len(begun) == 1:
            learner.dead.set()
            await asyncio.Event().wait()

    said = await recovered(tmp_path, learners, work)
    assert begun == learners.made and learners.made[0].closed and learners.starts == [Path("start")]
    assert "THE LEARNER IS LOST (a rank died)" in said


async def test_a_learner_that_fails_in_the_work_itself_is_replaced(tmp_path: Path) -> None:
    learners = Learners()

    async def work(learner: Watched) -> None:
        if len(learners.made) < 3:
            raise LearnerLostError("a broken collective")

    await recovered(tmp_path, learners, work)
    assert len(learners.made) == 3 and all(learner.closed for learner in learners.made[:2])


async def test_so_many_learners_lost_in_a_row_end_the_run_with_the_reason(tmp_path: Path) -> None:
    learners = Learners()

    async def work(learner: Watched) -> None:
        raise LearnerLostError("a broken collective")

    with pytest.raises(RuntimeError, match=r"The learner failed 2 times in a row \(trainer.max_failures=2\).* a broken collective"):
        await recovered(tmp_path, learners, work, limit=2)


async def test_a_run_that_comes_further_with_every_learner_goes_on_however_many_it_loses(tmp_path: Path) -> None:
    learners = Learners()
    with RunFolder.open(run_settings(tmp_path / "run"), RunConsole("test", Terminal(file=StringIO()))) as run:

        async def work(learner: Watched) -> None:
            run.log("sft", len(learners.made) - 1, {"sft/loss": 1.0}, total=9)  # and no checkpoint
            if len(learners.made) < 7:
                raise LearnerLostError("a rank died")

        await with_learner(cast(Any, learners), run, Failures(2), Path("start"), work)
    assert len(learners.made) == 7


@pytest.mark.parametrize(
    "reason",
    [
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 5.80 GiB",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "MemoryError: no answer in time",
        "ActorDiedError: Task was killed due to the node running low on memory.",
    ],
)
async def test_a_learner_that_lacks_memory_twice_in_the_same_step_ends_the_run_with_what_to_change(tmp_path: Path, reason: str) -> None:
    learners = Learners()

    async def work(learner: Watched) -> None:
        raise LearnerLostError(reason)

    with pytest.raises(RunFailedError, match=r"memory twice in SFT step 1 \(.*learner\.micro_batch_tokens \(now 16384\)") as ended:
        await recovered(tmp_path, learners, work, limit=9)
    assert len(learners.made) == 2 and reason in str(ended.value) and f"trainer.run_dir={tmp_path / 'run'}" in str(ended.value)


async def test_learners_that_lack_memory_in_different_steps_or_die_otherwise_are_replaced(tmp_path: Path) -> None:
    learners = Learners()
    reasons = ["out of memory", "a broken collective", "out of memory", "out of memory"]

    with RunFolder.open(run_settings(tmp_path / "run"), RunConsole("test", Terminal(file=StringIO()))) as run:

        async def work(learner: Watched) -> None:
            if len(learners.made) == 4:  # the run has come further
                run.log("sft", 0, {"sft/loss": 1.0}, total=9)
            if len(learners.made) <= len(reasons):
                raise LearnerLostError(reasons[len(learners.made) - 1])

        await with_learner(cast(Any, learners), run, Failures(9), Path("start"), work)
    assert len(learners.made) == 5


def test_the_kernels_count_tells_a_kill_for_memory_from_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 12\noom_kill 3\n")
    assert count_memory_kills(vmstat) == 3 and count_memory_kills(tmp_path / "none") == 0
    monkeypatch.setattr("rollout.failures.count_memory_kills", lambda: count_memory_kills(vmstat))
    deaths = MemoryDeaths()
    assert not deaths.again("killed by SIGKILL", 4)
    vmstat.write_text("oom_kill 4\n")
    assert not deaths.again("killed by SIGKILL", 4), "the first one for memory"
    assert not deaths.again("killed by SIGKILL", 4), "that one was another's doing"
    for killed in (5, 6):
        vmstat.write_text(f"oom_kill {killed}\n")
        assert deaths.again("killed by SIGKILL", 4) is (killed == 6)


def test_a_training_of_which_no_episode_could_be_judged_fails_with_the_reason(tmp_path: Path) -> None:
    with RunFolder.open(run_settings(tmp_path / "run"), RunConsole("test", Terminal(file=StringIO()))) as run:
        lost = {"infra/masked": 32.0, "infra/masked_share": 1.0}
        run.log("grpo", 0, lost, total=2)
        run.state.last_fault = "HTTP 503 (overloaded)"
        with pytest.raises(RunFailedError, match=r"None of the 32 episodes of 1 GRPO steps .* lost to: HTTP 503 \(overloaded\)"):
            refuse_if_all_masked(run)
        run.log("grpo", 1, lost | {"infra/masked": 31.0, "infra/masked_share": 31 / 32}, total=2)
        refuse_if_all_masked(run)


async def test_an_error_of_another_kind_is_not_survived(tmp_path: Path) -> None:
    learners = Learners()

    async def work(learner: Watched) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        await recovered(tmp_path, learners, work)
    assert len(learners.made) == 1


def test_a_run_that_got_ahead_counts_anew() -> None:
    failures = Failures(2)
    failures.count("The learner", "x", reached=0)
    failures.count("The learner", "x", reached=20)
    failures.count("Something else", "x", reached=20)
    with pytest.raises(RuntimeError, match="The learner failed 2 times"):
        failures.count("The learner", "x", reached=20)


def test_what_worked_again_counts_anew() -> None:
    failures = Failures(2)
    for _ in range(5):
        failures.count("Judging episodes", "x")
        failures.clear("Judging episodes")


@pytest.mark.parametrize(
    ("error", "step", "saved"),
    [
        (RuntimeError("no engine is left"), 7, [7]),
        (RuntimeError("between update and log"), None, []),
        (LearnerLostError("dead"), 7, []),
        (None, 7, []),
    ],
)
async def test_the_state_is_saved_where_an_error_leaves_the_learner_alive(
    tmp_path: Path, error: Exception | None, step: int | None, saved: list[int]
) -> None:
    with RunFolder.open(run_settings(tmp_path / "run"), RunConsole("test", Terminal(file=StringIO()))) as run:
        try:
            async with SavedOnError(run.checkpoints, ScriptedLearner("weights"), lambda: STREAM) as saver:
                saver.step = step
                if error is not None:
                    raise error
        except RuntimeError as raised:
            assert raised is error
        assert list(whole_checkpoints(run.path / "checkpoints")) == saved
