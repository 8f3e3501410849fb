"""Starts the simulated worker as a process of its own."""

import asyncio
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workflow.settings import SimulatedWorkerSettings, TaskSettings

START_TIMEOUT_S = 120.0
WATCH_EVERY_S = 0.5
"""Between two looks at the process."""
_ROOT = Path(__file__).resolve().parents[3]


@dataclass(slots=True)
class SimulatedProcess:
    """A running simulated worker. It also ends when this process does, however that happens."""

    base_url: str
    """For example ``http://127.0.0.1:40123/v1``."""
    log: Path
    """What the server writes to stdout and stderr."""
    process: subprocess.Popen[bytes]
    settings: SimulatedWorkerSettings
    tasks: TaskSettings
    imports: tuple[str, ...] = ()

    def restart(self) -> None:
        """Starts the server anew at the same address; blocks until it answers. Raises as ``start_simulated_worker``."""
        self.close()
        port = int(self.base_url.rsplit(":", 1)[1].split("/")[0])
        settings = self.settings.model_copy(update={"port": port})
        self.process = start_simulated_worker(settings, self.tasks, self.log.parent, imports=self.imports).process

    def close(self) -> None:
        """Ends the server; may be called again."""
        if self.process.stdin is not None:
            self.process.stdin.close()  # the child leaves at once
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> "SimulatedProcess":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class KeptAlive:
    """Restarts the simulated worker, at the same address, whenever its process ends."""

    def __init__(self, worker: SimulatedProcess, say: Callable[[str], None]) -> None:
        """Must be made in a running event loop."""
        self._worker = worker
        self._say = say
        self._task = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if (status := self._worker.process.poll()) is None:
                continue
            self._say(f"The simulated worker ended (exit status {status}) and is started anew; see {self._worker.log}.")
            try:
                await asyncio.to_thread(self._worker.restart)
            except (ValueError, RuntimeError, OSError) as error:
                self._say(f"The simulated worker does not start: {str(error).splitlines()[0]}")

    async def close(self) -> None:
        """Ends the watch and the server."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._worker.close()


def start_simulated_worker(
    settings: SimulatedWorkerSettings, tasks: TaskSettings, log_dir: Path | None = None, *, imports: tuple[str, ...] = ()
) -> SimulatedProcess:
    """Starts the server and waits until its port is open.

    Args:
        tasks: the task set that the worker must know.
        log_dir: where to write ``simulated_worker.log``; None: a new temporary folder.
        imports: modules that it imports first, ``trainer.imports``.

    Raises:
        ValueError: the settings cannot be served (missing task file, port in use), in a sentence.
        RuntimeError: the process ended or stayed silent; the message has the end of its log.
    """
    log = (log_dir or Path(tempfile.mkdtemp(prefix="flowreasoner-"))) / "simulated_worker.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    answer, pipe = os.pipe()
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), environment.get("PYTHONPATH")]))
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "workflow.nano.simulated.child", str(pipe), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(pipe,),
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the trainer alone, which then closes the worker in its turn
            )
    except BaseException:
        os.close(answer)
        raise
    finally:
        os.close(pipe)
    started = SimulatedProcess("", log, process, settings, tasks, imports)
    try:
        started.base_url = _handshake(started, answer)
    except BaseException:
        started.close()
        raise
    return started


def _handshake(started: SimulatedProcess, answer: int) -> str:
    process, log = started.process, started.log
    told = {"simulated": started.settings.model_dump(), "tasks": started.tasks.model_dump(), "imports": started.imports}
    with os.fdopen(answer, "rb") as reader:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(told).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended already: its log says why
        ready, _, _ = select.select([reader], [], [], START_TIMEOUT_S)
        line = reader.readline() if ready else b""
    message = json.loads(line) if line else {}
    if "error" in message:
        raise ValueError(message["error"])
    if "base_url" not in message:
        state = "ended at once" if ready else f"was silent for {START_TIMEOUT_S:.0f} s"
        tail = log.read_text(errors="replace")[-1500:].strip()
        raise RuntimeError(f"The simulated worker {state}; its log {log} ends with:\n{tail}")
    return message["base_url"]
