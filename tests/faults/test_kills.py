"""``kill -9`` of every part of a run, three times each, in one and the same run: it goes on, and nothing is lost or counted twice."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.training import RUN_OVERRIDES, Training, check_whole

pytestmark = pytest.mark.timeout(900)
OVERRIDES = (
    *RUN_OVERRIDES, "trainer.grpo.steps=5000", "trainer.max_staleness=1", "trainer.checkpoint.every_steps=4",
    "rollout.request_timeout_s=15", "learner.timeout_s=60",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    with Training(tmp_path_factory.mktemp("kills") / "run", [f"model.path={policy}", *OVERRIDES]) as training:
        training.reaches(2)
        yield training


@pytest.mark.parametrize("role", ["zygote", "sandbox", "worker", "engine actor", "engine core", "learner"])
def test_the_run_goes_on_after_each_of_three_kills_of(run: Training, role: str, show: Callable[[str], None]) -> None:
    took = [run.survives(role) for _ in range(3)]
    show(f"back at work {', '.join(f'{seconds:.1f}' for seconds in took)} s after a kill")


@pytest.mark.parametrize("role", ["engine core", "learner"])
def test_the_run_goes_on_after_a_hang_of(run: Training, role: str, show: Callable[[str], None]) -> None:
    show(f"back at work {run.survives(role, signal.SIGSTOP):.1f} s after it was stopped")


def test_at_its_end_the_run_is_whole_and_leaves_no_process(run: Training, show: Callable[[str], None]) -> None:
    run.process.terminate()
    assert run.process.wait(timeout=60) == 130, run.console()[-3000:]
    assert not run.orphans(), "processes outlive the run"
    steps = max(row["step"] for row in run.rows()) + 2
    with Training(run.run_dir, [f"trainer.grpo.steps={steps}"]) as again:
        assert again.process.wait(timeout=240) == 0, again.console()[-3000:]
        assert not again.orphans(), "processes outlive the run"
        show(check_whole(again, steps))
