"""The simulated worker as a child process: it starts, says why when it cannot, and never outlives its parent."""

import asyncio
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from launch.worker import main
from workflow.nano.simulated.process import KeptAlive, start_simulated_worker
from workflow.settings import SimulatedWorkerSettings, TaskSettings

PATIENCE_S = 100.0
"""For answers that take milliseconds on an idle machine."""
get = functools.partial(httpx.get, timeout=PATIENCE_S)
post = functools.partial(httpx.post, timeout=PATIENCE_S)

ROOT = Path(__file__).parents[1]


def gone(pid: int) -> bool:
    """True where no such process runs; a zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_it_serves_until_closed_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    with start_simulated_worker(SimulatedWorkerSettings(), TaskSettings(name="nano"), tmp_path) as worker:
        assert get(f"{worker.base_url}/models").status_code == 200
        assert worker.log == tmp_path / "simulated_worker.log"
    assert gone(worker.process.pid)
    worker.close()


async def test_killed_it_is_back_at_the_same_address_as_often_as_it_takes(tmp_path: Path) -> None:
    said: list[str] = []
    worker = start_simulated_worker(SimulatedWorkerSettings(), TaskSettings(name="nano"), tmp_path)
    kept = KeptAlive(worker, said.append)
    try:
        for kill in range(3):
            pid = worker.process.pid
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(60):
                while worker.process.pid == pid:
                    await asyncio.sleep(0.05)
            assert get(f"{worker.base_url}/models").status_code == 200 and len(said) == kill + 1
    finally:
        await kept.close()
    assert gone(worker.process.pid) and "The simulated worker ended (exit status -9)" in said[0]


def test_it_outlives_the_thread_that_started_it() -> None:
    started = []
    thread = threading.Thread(target=lambda: started.append(start_simulated_worker(SimulatedWorkerSettings(), TaskSettings(name="nano"))))
    thread.start()
    thread.join()
    try:
        time.sleep(0.3)
        assert get(f"{started[0].base_url}/models").status_code == 200
    finally:
        started[0].close()


@pytest.mark.parametrize("holds_stdin", [False, True], ids=["stdin closes", "another process holds stdin open"])
def test_it_dies_when_its_parent_is_killed(holds_stdin: bool) -> None:
    code = (
        "import os, time\n"
        "from workflow.settings import *\n"
        "from workflow.nano.simulated.process import start_simulated_worker\n"
        "worker = start_simulated_worker(SimulatedWorkerSettings(), TaskSettings(name='nano'))\n"
        f"held = os.fork() if {holds_stdin} else 0\n"
        f"if {holds_stdin} and not held: time.sleep(60); os._exit(0)\n"
        "print(worker.process.pid, held, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    worker, held = map(int, parent.stdout.readline().split())
    try:
        assert not gone(worker)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert wait_for(lambda: gone(worker))
    finally:
        if held:
            os.kill(held, signal.SIGKILL)
        parent.stdout.close()


def test_a_missing_task_file_is_said_by_the_starter() -> None:
    with pytest.raises(ValueError, match=r"tasks\.path='/nowhere\.jsonl' is not a file"):
        start_simulated_worker(SimulatedWorkerSettings(), TaskSettings(name="jsonl", path="/nowhere.jsonl"))


def test_a_port_in_use_is_said_by_the_starter() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ValueError, match=r"set simulated\.port to a free port"):
        start_simulated_worker(SimulatedWorkerSettings(port=taken.getsockname()[1]), TaskSettings(name="nano"))


def test_a_crash_at_start_shows_the_end_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fastapi.py").write_text("raise SystemError('broken install')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="broken install"):
        start_simulated_worker(SimulatedWorkerSettings(), TaskSettings(name="nano"), tmp_path)


def test_it_plays_humaneval_from_a_file() -> None:
    tasks = TaskSettings(name="humaneval", path=str(ROOT / "tests" / "data" / "humaneval_sample.jsonl"))
    with start_simulated_worker(SimulatedWorkerSettings(), tasks) as worker:
        from workflow.tasks import load_problems

        query = load_problems(tasks)[0].query
        body = {"model": "simulated-worker", "messages": [{"role": "user", "content": query}]}
        reply = post(f"{worker.base_url}/chat/completions", json=body).json()
        assert "def has_close_elements" in reply["choices"][0]["message"]["content"]


def test_the_command_prints_its_address_and_stops_at_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch.worker", "simulated.seed=4"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith("The model simulated-worker is served at http://127.0.0.1:")
    assert get(line.split()[-1] + "/models").status_code == 200
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=PATIENCE_S)
    assert errors == "" and (tmp_path / "simulated_worker.log").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks=jsonl", "set tasks.path"),
        ("simulated.faults.http_429=3", "simulated.faults.http_429=3 must be at most 1"),
        ("worker=local", "worker.provider=endpoint starts nothing"),
    ],
)
def test_a_wrong_setting_ends_the_command_with_a_sentence(
    override: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["launch.worker", override])
    assert main() == 2
    assert message in capsys.readouterr().err
