"""How one tells that a process died for want of memory."""

import re
from pathlib import Path

LESS_MEMORY = (
    "Where engines lack memory, lower rollout.engine_args.gpu_memory_utilization or rollout.engine_args.max_num_seqs; their own words are "
    "in Ray's worker logs."
)
_LAST_WORDS = re.compile(r"out of memory|OutOfMemory|low on memory|allocate memory|bad_alloc|MemoryError", re.IGNORECASE)
_VMSTAT = Path("/proc/vmstat")


def count_memory_kills(vmstat: Path = _VMSTAT) -> int:
    """Processes that this machine's kernel has killed for want of memory since it started; 0 where it does not tell."""
    try:
        counts = dict(line.split() for line in vmstat.read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


class MemoryDeaths:
    """Tells deaths for want of memory from others: by a process' last words, or by the kernel's count on this machine.

    A process that the kernel killed on another machine says nothing of why, and counts as any death.
    """

    def __init__(self) -> None:
        self._killed = count_memory_kills()
        self._step: object = None

    def again(self, reason: str, step: object) -> bool:
        """Notes a death in a step of the run; True where the one before was in the same step and both were for want of memory."""
        killed, before = count_memory_kills(), self._killed
        of_memory = bool(_LAST_WORDS.search(reason)) or killed > before
        self._killed = killed
        self._step, last = step if of_memory else None, self._step
        return of_memory and last == step
