"""benchmarks.soak: what it makes of its looks, and that it sees a process tree. Starts no run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.process_watch import Look, ProcessTree, Usage, folder_mib, role_of
from benchmarks.soak import Sample, overrides, summary, theil_sen
from launch.compose import compose_settings


def run(steps: int, anon_mib=lambda step: 500.0, fds=lambda step: 80, shm_mib=lambda step: 60.0, warm: int = 10) -> list[Sample]:
    """Looks, two a step, of a run whose learner is still growing during the warm-up."""
    looks = []
    for index in range(2 * steps + 4):
        step = min(steps, index // 2)
        usage = Usage(1, anon_mib(step) + 30 * min(0, step - warm), 900.0, fds(step), 40)
        looks.append(Sample(float(index), step, Look({"learner rank": usage, "box": Usage(index % 5)}, shm_mib(step), 2), 0.1 * step, 1.0))
    return looks


def test_what_grows_during_the_warm_up_alone_is_flat() -> None:
    out = summary(run(60), steps=60, warmup=10)
    assert out["flat"] and out["grows"] == []
    assert out["roles"]["learner rank"]["anon_mib"] == {"start": 500.0, "growth": 0.0, "per_100_steps": 0.0, "flat": True}
    assert out["whole"]["run_folder_mib"]["per_100_steps"] == pytest.approx(10.0) and "flat" not in out["whole"]["run_folder_mib"]


@pytest.mark.parametrize(
    ("leak", "named"),
    [
        ({"anon_mib": lambda step: 500.0 + 0.5 * step}, ["learner rank anon_mib"]),
        ({"fds": lambda step: 80 + step // 4}, ["learner rank fds"]),
        ({"shm_mib": lambda step: 60.0 + step}, ["shm_mib"]),
    ],
)
def test_a_leak_is_named_with_its_rate(leak, named) -> None:
    out = summary(run(60, **leak), steps=60, warmup=10)
    assert not out["flat"] and out["grows"] == named


def test_shrinking_is_no_leak() -> None:
    assert summary(run(60, anon_mib=lambda step: 500.0 - step), steps=60, warmup=10)["flat"]


def test_too_short_a_run_is_refused() -> None:
    with pytest.raises(ValueError, match="run more steps"):
        summary(run(12), steps=12, warmup=10)


def test_the_slope_ignores_a_few_wild_looks() -> None:
    values = [2.0 * x + (1000.0 if x == 7 else 0.0) for x in range(40)]
    assert theil_sen(range(40), values) == pytest.approx(2.0)
    assert theil_sen([3, 3], [1, 9]) == 0.0


@pytest.mark.parametrize(
    ("command", "parent", "role"),
    [
        (["ray::SandboxActor.run"], "raylet", "sandbox actor"),
        (["ray::LearnerWorker.update"], "raylet", "learner rank"),
        (["python", "-c", "from sandbox.guest.zygote import main"], "sandbox actor", "zygote"),
        (["python", "-c", "from sandbox.guest.zygote import main"], "zygote", "box"),
        (["python", "-m", "launch.train"], "", "driver"),
        (["sleep"], "driver", "other"),
    ],
)
def test_roles_are_known_by_command_line_and_parent(command: list[str], parent: str, role: str) -> None:
    assert role_of(command, parent) == role


CHILD = """import os, sys, time
held = [os.open('/dev/null', os.O_RDONLY) for _ in range(50)]
memory = bytearray(60 * 2**20)
for at in range(0, len(memory), 4096): memory[at] = 1
shared = open('/dev/shm/' + sys.argv[1], 'wb'); shared.write(b'x' * 3 * 2**20); shared.flush(); os.unlink(shared.name)
print('up', flush=True)
time.sleep(60)
"""


def test_a_look_sees_memory_descriptors_and_unlinked_shared_memory_of_a_grandchild() -> None:
    shell = f'{sys.executable} -c "$CHILD" soak-test-{os.getpid()} workflow.nano.simulated.child; true'
    process = subprocess.Popen(["sh", "-c", shell], env=os.environ | {"CHILD": CHILD}, stdout=subprocess.PIPE, text=True)
    tree = ProcessTree(process.pid)
    try:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        usage = tree.look().roles["simulated worker"]
        assert usage.processes == 2 and 60 < usage.anon_mib < 120 and 50 < usage.fds < 70 and usage.threads >= 2  # with its shell
        assert tree.look().shm_mib >= 3 and tree.look().shm_files >= 1
    finally:
        for one in tree.alive():
            one.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while tree.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert tree.alive() == []


def test_a_folder_is_measured_without_its_checkpoints(tmp_path: Path) -> None:
    for name in ("checkpoints/a", "wandb/checkpoints", "metrics"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 2**20)
    assert folder_mib(tmp_path, "checkpoints") == 2.0


def test_the_watched_run_is_a_valid_setting_of_short_overlapping_steps(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    settings = compose_settings(overrides(tmp_path, None, 300))
    assert (settings.trainer.grpo.steps, settings.trainer.max_staleness, settings.logger.wandb) == (300, 1, "offline")
    assert settings.trainer.checkpoint.every_steps == 20
