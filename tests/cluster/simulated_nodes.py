"""A Ray cluster of several nodes on one machine: ``ray start --block`` processes, with a token, apart from any other Ray here."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120.0
OBJECT_STORE_MIB = 100


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Nodes:
    """A head and worker nodes, each the child of one process that can be killed with all below it; a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fr-"))  # short: Ray's socket paths have a limit of 107 bytes
        self.token = secrets.token_hex(32)
        self.gcs = f"127.0.0.1:{free_port()}"
        self.dashboard = f"http://127.0.0.1:{free_port()}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to start nodes, to submit and to join."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB_"))}
        ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_TMPDIR": str(self.folder), "RAY_DISABLE_MEMORY_MONITOR": "1"}
        return kept | ours | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

    def __enter__(self) -> "Nodes":
        return self

    def __exit__(self, *exc: object) -> None:
        for name in reversed(list(self.processes)):
            self.kill(name)
        for process in psutil.process_iter(["cmdline"]):  # what left its parent
            if any(str(self.folder) in part for part in process.info["cmdline"] or []):
                _kill([process])
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name: str, *, cpus: int, resources: dict[str, float]) -> None:
        """Starts a node, the head first, and waits until it is part of the cluster."""
        host, port = self.gcs.split(":")
        if self.processes:
            # A disk of its own: each node unpacks a job's working directory anew, which another one may be running in.
            place = [f"--address={self.gcs}", f"--temp-dir={self.folder / name}"]
        else:
            place = ["--head", f"--port={port}", f"--ray-client-server-port={free_port()}", "--include-dashboard=true"]
            place += [f"--dashboard-port={self.dashboard.rpartition(':')[2]}"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={host}", *place]
        command += [f"--num-cpus={cpus}", "--num-gpus=0", f"--resources={json.dumps(resources)}", "--disable-usage-stats"]
        command += [f"--object-store-memory={OBJECT_STORE_MIB * 2**20}", f"--dashboard-agent-listen-port={free_port()}"]
        printed = self.folder / f"{name}.log"
        with printed.open("wb") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes[name] = process
        deadline = time.monotonic() + START_TIMEOUT_S
        while "Ray runtime started" not in printed.read_text() or not self.alive():
            assert process.poll() is None and time.monotonic() < deadline, printed.read_text()[-3000:]
            time.sleep(0.5)

    def kill(self, name: str) -> None:
        """Ends a node on the spot: raylet, workers, all."""
        process = self.processes.pop(name)
        _kill([*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)] if process.poll() is None else [])
        process.wait(timeout=30)

    def alive(self) -> int:
        """Nodes that Ray counts as alive; 0 while the head is not up."""
        try:
            rows = self.get("/nodes?view=summary")["data"]["summary"]
        except (httpx.HTTPError, KeyError, ValueError):
            return 0
        return sum(row.get("raylet", {}).get("state") == "ALIVE" for row in rows)

    def get(self, path: str, *, token: str | None = None) -> Any:
        """JSON of the dashboard; raises httpx.HTTPStatusError where the token is refused."""
        reply = httpx.get(self.dashboard + path, headers={"Authorization": f"Bearer {token or self.token}"}, timeout=20, trust_env=False)
        reply.raise_for_status()
        return reply.json()

    def submit(self, working_dir: Path, command: Sequence[str], *, cwd: Path) -> str:
        """``ray job submit`` from ``cwd``; the id of the job."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--no-wait", "--address", self.dashboard),
                *("--working-dir", str(working_dir), "--", *command),
            ],
            env=self.environment | {"NO_PROXY": "*", "no_proxy": "*"},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return next(word.strip("'") for word in done.stdout.split() if word.strip("'").startswith("raysubmit_"))

    def status(self, job: str) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        return str(self.get(f"/api/jobs/{job}")["status"])

    def logs(self, job: str) -> str:
        """What the job has printed."""
        return str(self.get(f"/api/jobs/{job}/logs")["logs"])


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)
