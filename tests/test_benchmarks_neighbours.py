"""benchmarks.neighbours: whose CPU time counts as other programs'."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from benchmarks.neighbours import Neighbours

SPIN = "import time; end = time.monotonic() + 100\nwhile time.monotonic() < end: pass"


def spin_through_a_parent() -> tuple[subprocess.Popen[str], int]:
    """A parent that starts a spinning process, tells its id and ends when it is told to."""
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SPIN!r}], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.readline()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def wait_until(reached: Callable[[], bool]) -> None:
    """The test's own limit ends it."""
    while not reached():
        time.sleep(0.02)


def test_a_process_outside_of_our_tree_is_a_neighbour_and_adds_to_the_cores() -> None:
    parent, pid = spin_through_a_parent()
    try:
        parent.communicate("end\n")  # the spinning process is no longer a descendant of ours
        began_s, before_s = time.monotonic(), cpu_s(pid)
        with Neighbours(every_s=0.1) as neighbours:
            met_s = cpu_s(pid)
            wait_until(lambda: cpu_s(pid) > met_s + 0.3)
            after_s = cpu_s(pid)
        left_s, took_s = cpu_s(pid), time.monotonic() - began_s
    finally:
        os.kill(pid, signal.SIGKILL)
    (spent_s,) = [seconds for (one, _), seconds in neighbours.seconds.items() if one == pid]
    assert after_s - met_s - 0.01 <= spent_s <= left_s - before_s + 0.01
    assert neighbours.cores >= spent_s / took_s


def test_a_descendant_is_no_neighbour_even_after_its_parent_has_ended() -> None:
    with Neighbours(every_s=0.05) as neighbours:
        parent, pid = spin_through_a_parent()
        try:
            wait_until(lambda: pid in {one for one, _ in neighbours._ours})
            parent.communicate("end\n")
            wait_until(lambda: cpu_s(pid) > 0.1)
            time.sleep(0.2)
        finally:
            os.kill(pid, signal.SIGKILL)
    assert pid not in {one for one, _ in neighbours.seconds}
