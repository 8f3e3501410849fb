"""What a run survives: failures in a row, a learner that is lost, a state that is saved before the end."""

import asyncio
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from rollout.stream import StreamState
from tests.run_factory import settings as run_settings
from tests.test_run_folder_resume import ScriptedLearner
from trainer.checkpoints import SavedOnError
from trainer.console import RunConsole
from trainer.failures import Failures, LearnerLostError
from trainer.recovery import with_learner
from trainer.run_folder import RunFolder

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
    with RunFolder.open(run_settings(tmp_path / "run"), RunConsole("test", Console(file=out, width=300))) as run:
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
            raise LearnerLostError("out of memory")

    await recovered(tmp_path, learners, work)
    assert len(learners.made) == 3 and all(learner.closed for learner in learners.made[:2])


async def test_so_many_learners_lost_in_a_row_end_the_run_with_the_reason(tmp_path: Path) -> None:
    learners = Learners()

    async def work(learner: Watched) -> None:
        raise LearnerLostError("out of memory")

    with pytest.raises(RuntimeError, match=r"The learner failed 2 times in a row \(trainer.max_failures=2\).* out of memory"):
        await recovered(tmp_path, learners, work, limit=2)


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
    with RunFolder.open(run_settings(tmp_path / "run"), RunConsole("test", Console(file=StringIO()))) as run:
        try:
            async with SavedOnError(run.checkpoints, ScriptedLearner("weights"), lambda: STREAM) as saver:
                saver.step = step
                if error is not None:
                    raise error
        except RuntimeError as raised:
            assert raised is error
        assert run.checkpoints.steps() == saved
