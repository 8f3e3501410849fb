"""benchmarks.neighbours: whose CPU time counts as other programs'."""

import os
import signal
import subprocess
import sys
import time

from benchmarks.neighbours import Neighbours

SPIN = "import time; end = time.monotonic() + 30\nwhile time.monotonic() < end: pass"


def spin_through_a_parent(parent_lives_s: float) -> tuple[subprocess.Popen[str], int]:
    """A parent that starts a spinning process, tells its id and ends after ``parent_lives_s``."""
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SPIN!r}], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        f"time.sleep({parent_lives_s})"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def test_a_process_outside_of_our_tree_is_a_neighbour_and_adds_to_the_cores() -> None:
    parent, pid = spin_through_a_parent(parent_lives_s=0.0)
    try:
        parent.wait()  # the spinning process is no longer a descendant of ours
        with Neighbours(every_s=0.1) as neighbours:
            time.sleep(1.0)
    finally:
        os.kill(pid, signal.SIGKILL)
    spent_s = [seconds for (one, _), seconds in neighbours.seconds.items() if one == pid]
    assert spent_s and 0.02 < spent_s[0] <= 2.0
    assert neighbours.cores >= spent_s[0] / 2.0


def test_a_descendant_is_no_neighbour_even_after_its_parent_has_ended() -> None:
    with Neighbours(every_s=0.05) as neighbours:
        parent, pid = spin_through_a_parent(parent_lives_s=1.0)
        try:
            parent.wait()
            time.sleep(0.3)
        finally:
            os.kill(pid, signal.SIGKILL)
    assert pid not in {one for one, _ in neighbours.seconds}
