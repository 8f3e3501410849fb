"""Taking hold of a run folder: it can be written, the disk has room, and no other process has it."""

import fcntl
import os
import shutil
from pathlib import Path

PROBE_BYTES = 4 * 2**20
"""Written and removed when a folder is opened, so that a full disk is noticed at once (a quota too)."""
MIN_FREE_MIB = 100
"""Free space below which no run begins; the embedded default needs about as much."""
OURS = {"config.yaml", "state.json", ".lock", "multirun.yaml"}


def probe(path: Path) -> None:
    """Makes the folder and shows that it can be written.

    Raises:
        ValueError: it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = path / f".probe-{os.getpid()}"
        try:
            with file.open("wb") as out:
                out.write(os.urandom(PROBE_BYTES))
                out.flush()
                os.fsync(out.fileno())
        finally:
            file.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(
            f"trainer.run_dir={str(path)!r} cannot be written ({reason}): give a folder on a disk with space and permission."
        ) from None
    free_mib = shutil.disk_usage(path).free // 2**20
    if free_mib < MIN_FREE_MIB:
        raise ValueError(
            f"trainer.run_dir={str(path)!r} is on a disk with {free_mib} MiB left, and a run needs at least {MIN_FREE_MIB}: "
            "free some space or give a folder elsewhere."
        )
    others = sorted(item.name for item in path.iterdir() if item.name not in OURS)
    if others and not (path / "config.yaml").exists():
        raise ValueError(
            f"trainer.run_dir={str(path)!r} holds other files ({', '.join(others[:3])}) and no run: give a new or empty folder."
        )


def hold(path: Path) -> int:
    """An open, locked file descriptor that keeps other processes out of the folder until it is closed.

    Raises:
        ValueError: another process holds the folder.
    """
    lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise ValueError(
            f"trainer.run_dir={str(path)!r} is in use by process {holder}: wait for it, end it, or give another folder."
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock
