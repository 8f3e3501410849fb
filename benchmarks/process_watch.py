"""What the processes of one tree use, by role: memory, descriptors, threads, /dev/shm. Cheap enough to look every few seconds."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SHM = Path("/dev/shm")
ROLES = (
    ("workflow.nano.simulated.child", "simulated worker"),
    ("sandbox.guest.zygote", "zygote"),
    ("gcs_server", "gcs"),
    ("raylet/raylet", "raylet"),
    ("VLLM::", "vLLM core"),
    ("ray::PolicyEngine", "engine actor"),
    ("ray::LearnerWorker", "learner rank"),
    ("ray::SandboxActor", "sandbox actor"),
    ("ray::IDLE", "ray idle worker"),
    ("ray::", "ray agent"),
    ("log_monitor", "ray agent"),
    ("wandb-core", "W&B core"),
    ("gpu_stats", "W&B core"),
    ("launch.train", "driver"),
)
"""What a command line contains, and what it then is; the first match counts."""


@dataclass(slots=True)
class Usage:
    """Sums over the processes of one role at one moment."""

    processes: int = 0
    anon_mib: float = 0.0
    """Anonymous memory: heaps and stacks, not files. In contrast to USS no page table is walked, and neighbours who map the same files
    change nothing."""
    rss_mib: float = 0.0
    """All resident memory: with files and with pages of the object store."""
    fds: int = 0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """The tree at one moment."""

    roles: dict[str, Usage]
    shm_mib: float
    """What it holds of /dev/shm: files there that are new since the tree began, and unlinked ones that a process has open."""
    shm_files: int


def role_of(command: Sequence[str], parent: str) -> str:
    """The role of a process by its command line and its parent's role: a fork of a zygote is a box."""
    text = " ".join(command)
    if parent in ("zygote", "box"):
        return "box"
    return next((role for part, role in ROLES if part in text), "other")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look during the run."""

    at_s: float
    step: int
    """Finished GRPO steps."""
    look: Look
    folder_mib: float
    """The run folder without its checkpoints."""
    ray_mib: float
    """Ray's session folders: its logs."""


class ProcessTree:
    """A process and all that descend from it, also those whose parent has ended meanwhile."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._known: dict[tuple[int, float], psutil.Process] = {}
        self._shm_before = set(os.listdir(SHM)) if SHM.is_dir() else set()

    def alive(self) -> list[psutil.Process]:
        """Those that live, the root first if it does; zombies are left out."""
        if _lives(self._root):
            found = [self._root, *_children(self._root)]
        else:
            found = [child for orphan in self._known.values() for child in _children(orphan)]
        for process in found:
            self._known.setdefault((process.pid, process.create_time()), process)
        self._known = {key: process for key, process in self._known.items() if _lives(process)}
        return list(self._known.values())

    def shm_left(self) -> list[str]:
        """Files in /dev/shm that were not there when the tree began."""
        return sorted(set(os.listdir(SHM)) - self._shm_before) if SHM.is_dir() else []

    def look(self) -> Look:
        """What the tree uses now; a process that ends meanwhile is left out."""
        processes = sorted(self.alive(), key=lambda process: process.create_time())  # parents come before their children
        named: dict[int, str] = {}
        roles: dict[str, Usage] = defaultdict(Usage)
        shm: dict[int, int] = {}
        for process in processes:
            try:
                with process.oneshot():
                    role = named[process.pid] = role_of(process.cmdline(), named.get(process.ppid(), ""))
                    self._add(roles[role], process, role, shm)
            except (psutil.Error, OSError):
                continue
        for name in self.shm_left():
            try:
                state = (SHM / name).stat()
            except OSError:
                continue
            shm[state.st_ino] = state.st_blocks * 512
        return Look(dict(roles), sum(shm.values()) / 2**20, len(shm))

    @staticmethod
    def _add(usage: Usage, process: psutil.Process, role: str, shm: dict[int, int]) -> None:
        if role == "box":  # it lives for a moment, shares nearly all with its zygote, and others are born meanwhile
            usage.processes += 1
            return
        anonymous, resident = _memory_mib(process.pid)
        folder = f"/proc/{process.pid}/fd"
        links = os.listdir(folder)
        for link in links:
            try:
                if os.readlink(f"{folder}/{link}").startswith(f"{SHM}/"):
                    state = os.stat(f"{folder}/{link}")
                    shm[state.st_ino] = state.st_blocks * 512
            except OSError:
                continue
        usage.processes += 1
        usage.anon_mib += anonymous
        usage.rss_mib += resident
        usage.fds += len(links)
        usage.threads += process.num_threads()


def _memory_mib(pid: int) -> tuple[float, float]:
    """Anonymous and all resident memory of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    anonymous, resident = (int(fields.get(name, "0 kB").split()[0]) / 1024 for name in ("RssAnon", "VmRSS"))
    return anonymous, resident


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def folder_mib(folder: Path, without: str = "") -> float:
    """Size of the files below a folder, one subfolder of it left out."""
    total = 0
    for place, folders, files in os.walk(folder):
        if Path(place) == folder and without in folders:
            folders.remove(without)
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total / 2**20
