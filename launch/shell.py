"""What every command has around it: one sentence for a user's error, an exit code, a resumable end on Ctrl-C.

Exit codes: 0 done, 1 something unexpected (its traceback is in a file), 2 the user's to repair, 130 interrupted.
``launch.solve``, where 1 is an outcome, ends with 3 for the unexpected and for machines.
"""

import errno
import functools
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from conf.schema import Config
from trainer.run.terminal import printable
from workflow.outcome import RunFailedError
from workflow.worker.interface import WorkerError

TRACEBACK_VARIABLE = "FLOWREASONER_TRACEBACK"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)


def load_run_settings(run_dir: Path, overrides: Sequence[str] = ()) -> Config:
    """The settings of a run folder, with value overrides on top, for a command that uses the run and does not go on with it.

    Raises:
        ValueError: no such run, or one sentence per problem of a setting.
    """
    from launch.compose import load_saved

    return load_saved(run_dir, overrides, trains=False)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, with what the user can do next."""

    def __init__(self, remedy: str = "") -> None:
        super().__init__(remedy)
        self.remedy = remedy


def one_sentence_errors(main: Callable[[], int]) -> Callable[[], int]:
    """Wraps a command's ``main`` so that it ends with a sentence and an exit code, never with a wall of traceback.

    SIGTERM ends a command like Ctrl-C, so that its child processes are closed. With FLOWREASONER_TRACEBACK=1 the
    traceback is printed too.
    """

    @functools.wraps(main)
    def guarded() -> int:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what ends on `&`
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _as_interrupt)
        try:
            return main()
        except KeyboardInterrupt as interrupt:
            remedy = interrupt.remedy if isinstance(interrupt, Interrupted) else ""
            return _end(130, "Interrupted." + (f" {remedy}" if remedy else ""), interrupt)
        except Exception as error:
            return report_error(error)

    return guarded


def report_error(error: Exception, folder: Path | None = None, *, failed: int = 2, unexpected: int = 1) -> int:
    """Prints the one sentence of an error and returns the exit code.

    Args:
        folder: where the traceback of an unexpected error goes, as ``error.log``; None: a temporary file.
        failed: the code where machines or an endpoint ended the command. unexpected: the code where nobody knows what did.
    """
    if isinstance(error, BaseExceptionGroup):
        first = error.exceptions[0]
        if len(error.exceptions) == 1 and isinstance(first, Exception):
            return report_error(first, folder, failed=failed, unexpected=unexpected)
    cause = getattr(error, "cause", None)  # Ray wraps an actor's exception
    for each in (cause, error):
        if isinstance(each, WorkerError | RunFailedError):
            return _end(failed, str(each), error)
        if (sentence := _users_error(each)) is not None:
            return _end(2, sentence, error)
    return _end(unexpected, f"{type(error).__name__}: {_first_line(error)} (traceback: {_keep_traceback(error, folder)})", error)


def _users_error(error: object) -> str | None:
    """The sentence for what the user can repair in settings or on the disk; None for anything else."""
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return str(error)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return f"The disk is full{_where(error)}: free some space, or give a run folder elsewhere with trainer.run_dir=..."
    if isinstance(error, OSError) and error.errno in NO_ACCESS:
        return f"No permission to write{_where(error)}: give another folder, for example with trainer.run_dir=..."
    return None


def _where(error: OSError) -> str:
    return f" at {error.filename}" if error.filename else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0][:300]


def _keep_traceback(error: Exception, folder: Path | None) -> Path | str:
    text = "".join(traceback.format_exception(error))
    for place in (folder, Path(tempfile.gettempdir())):
        if place is not None and place.is_dir():
            file = place / ("error.log" if place == folder else f"flowreasoner-error-{os.getpid()}.log")
            try:
                file.write_text(text)
            except OSError:
                continue
            return file
    return f"set {TRACEBACK_VARIABLE}=1 to see it"


def _end(code: int, message: str, error: BaseException) -> int:
    if os.environ.get(TRACEBACK_VARIABLE) == "1":
        traceback.print_exception(error)
    for line in printable(message).splitlines():
        print(f"error: {line}" if code != 130 else line, file=sys.stderr)
    return code


def _as_interrupt(signum: int, frame: object) -> None:
    signal.raise_signal(signal.SIGINT)  # as Ctrl-C: asyncio then cancels its main task and lets it close what it opened
