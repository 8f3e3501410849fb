"""The server as a child process: settings come in on stdin, the base URL goes out on a pipe, and it dies with its parent.

The parent's death is seen twice: its end of stdin closes, and its pidfd becomes readable even where some other process
inherited that end. (A parent-death signal would fire when the starting *thread* ends.)
"""

import json
import os
import select
import sys
import threading

from workflow.nano.simulated.server import serve
from workflow.registry import load_plugins
from workflow.settings import SimulatedWorkerSettings, TaskSettings


def main() -> None:
    """Arguments: the number of the pipe to answer on, the parent's process id. One JSON line of settings on stdin."""
    pipe, parent = int(sys.argv[1]), int(sys.argv[2])
    try:
        watch = os.pidfd_open(parent)
    except ProcessLookupError:
        return
    if os.getppid() != parent:  # it died before the pidfd was opened, and the number may be another's
        return
    line = sys.stdin.buffer.readline()
    if not line:
        return
    threading.Thread(target=_leave_with_parent, args=(watch,), daemon=True).start()
    wanted = json.loads(line)

    def answer(message: dict[str, str]) -> None:
        with os.fdopen(pipe, "w") as out:
            out.write(json.dumps(message) + "\n")

    try:
        load_plugins(wanted["imports"])
        settings = SimulatedWorkerSettings.model_validate(wanted["simulated"])
        serve(settings, TaskSettings.model_validate(wanted["tasks"]), ready=lambda url: answer({"base_url": url}))
    except ValueError as error:
        answer({"error": str(error)})
        sys.exit(2)


def _leave_with_parent(watch: int) -> None:
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    poll.poll()  # nothing more is ever written to stdin, so any event is the end
    os._exit(0)


if __name__ == "__main__":
    main()
