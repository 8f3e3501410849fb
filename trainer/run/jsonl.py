"""JSON Lines files that survive a crash and a full disk: appended, cut back to whole rows, rewritten by renaming.

What cannot be written waits in memory and is tried again; a run does not end because its log has no room.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

Row = dict[str, Any]
BLOCK_BYTES = 2**16


class Appender:
    """Appends rows to one file. Where a write fails, the file ends with its last whole row and the rest waits, in order.

    It is told once when rows begin to wait and once when all are written; ``append``, ``retry`` and ``close`` try again.
    """

    def __init__(self, file: Path, warn: Callable[[str], None], max_waiting_bytes: int | None = None) -> None:
        """
        Args:
            warn: prints a line that stands out.
            max_waiting_bytes: beyond it the oldest waiting rows are dropped; None: none ever is.
        """
        self.file = file
        self._warn = warn
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._reason = ""

    def append(self, rows: Iterable[Row]) -> None:
        """Writes what waits and then these rows, as far as there is room."""
        for row in rows:
            line = _line(row).encode()
            self._waiting.append(line)
            self._waiting_bytes += len(line)
        self.retry()

    def retry(self) -> None:
        """Writes what waits, as far as there is room."""
        if not self._waiting:
            return
        try:
            self._write()
        except OSError as error:
            self._keep_within_bounds()
            if not self._reason:
                self._reason = error.strerror or str(error)
                self._warn(
                    f"NOT WRITTEN: {self.file} ({self._reason}). The run goes on; its rows wait in memory and are written as soon as "
                    "there is room: free some space."
                )
            return
        if self._reason:
            self._reason = ""
            lost = f"but {self._dropped} rows had been dropped" if self._dropped else "all rows that waited are in it"
            self._warn(f"{self.file} is written again; {lost}.")
            self._dropped = 0

    def close(self) -> None:
        """A last try; a sentence on what is lost."""
        self.retry()
        if self._waiting:
            lost = len(self._waiting) + self._dropped
            self._warn(f"LOST: {lost} rows of {self.file} could not be written ({self._reason}).")
            self._waiting.clear()
            self._waiting_bytes = 0

    def rows(self) -> list[Row]:
        """All rows: those in the file, then those that wait."""
        return [*read_rows(self.file), *(json.loads(line) for line in self._waiting)]

    def keep(self, wanted: Callable[[Row], bool]) -> list[Row]:
        """Removes the rows that are not wanted, waiting ones too, and returns them."""
        self.retry()
        removed = keep_rows(self.file, wanted)
        rows = [json.loads(line) for line in self._waiting]
        self._waiting = deque(line for line, row in zip(self._waiting, rows, strict=True) if wanted(row))
        self._waiting_bytes = sum(map(len, self._waiting))
        return removed + [row for row in rows if not wanted(row)]

    def _write(self) -> None:
        """Appends what waits; whole rows that were written before a failure stay written."""
        with self.file.open("ab", buffering=0) as out:
            if self._reason:  # an earlier failure may have left half a row that could not be cut off
                drop_half_line(self.file)
            start = out.seek(0, os.SEEK_END)
            data = memoryview(b"".join(self._waiting))
            done = 0
            try:
                while done < len(data):
                    done += out.write(data[done:])
            except OSError:
                whole = self._take(done)
                with suppress(OSError):  # the next try cuts it off
                    out.truncate(start + whole)
                raise
            self._take(done)

    def _take(self, written_bytes: int) -> int:
        """Forgets the rows that are wholly among the written bytes; returns their length."""
        whole = 0
        while self._waiting and whole + len(self._waiting[0]) <= written_bytes:
            whole += len(self._waiting.popleft())
        self._waiting_bytes -= whole
        return whole

    def _keep_within_bounds(self) -> None:
        if self._max_waiting_bytes is None or self._waiting_bytes <= self._max_waiting_bytes:
            return
        if not self._dropped:
            self._warn(
                f"DROPPING rows of {self.file}: more than {self._max_waiting_bytes / 2**20:.4g} MiB of them wait; the oldest go first."
            )
        while self._waiting_bytes > self._max_waiting_bytes:
            self._waiting_bytes -= len(self._waiting.popleft())
            self._dropped += 1


class WholeFile:
    """A small file that is replaced as a whole; a content that cannot be written is tried again with ``retry`` and ``close``."""

    def __init__(self, file: Path, warn: Callable[[str], None]) -> None:
        self.file = file
        self._warn = warn
        self._waiting: str | None = None
        self._reason = ""

    def write(self, text: str) -> None:
        """Replaces the file's content, now or as soon as there is room."""
        self._waiting = text
        self.retry()

    def retry(self) -> None:
        """Writes the newest content if it still waits."""
        if self._waiting is None:
            return
        try:
            replace_text(self.file, self._waiting)
        except OSError as error:
            if not self._reason:
                self._reason = error.strerror or str(error)
                self._warn(f"NOT WRITTEN: {self.file} ({self._reason}). The run goes on and tries again: free some space.")
            return
        self._waiting = None
        if self._reason:
            self._reason = ""
            self._warn(f"{self.file} is written again.")

    def close(self) -> None:
        """A last try; a sentence where it fails."""
        self.retry()
        if self._waiting is not None:
            self._warn(f"LOST: the newest {self.file} could not be written ({self._reason}).")
            self._waiting = None


def read_rows(file: Path) -> list[Row]:
    """The rows of a JSON Lines file; none where there is no file. A half-written last line is left out."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines if line.strip()]


def drop_half_line(file: Path) -> None:
    """Cuts off what a crash or a full disk left of a line."""
    if not file.exists():
        return
    with file.open("rb+") as out:
        end = out.seek(0, os.SEEK_END)
        whole = end
        while whole:
            begin = max(0, whole - BLOCK_BYTES)
            out.seek(begin)
            newline = out.read(whole - begin).rfind(b"\n")
            whole = begin + newline + 1
            if newline >= 0:
                break
        if whole < end:
            out.truncate(whole)


def keep_rows(file: Path, wanted: Callable[[Row], bool]) -> list[Row]:
    """Leaves a JSON Lines file with the wanted rows alone and returns the others. Where those are at its end, it is cut in place."""
    rows = read_rows(file)
    kept = [row for row in rows if wanted(row)]
    if len(kept) == len(rows):
        return []
    text = "".join(map(_line, kept))
    if all(wanted(row) for row in rows[: len(kept)]) and file.read_bytes().startswith(text.encode()):
        with file.open("rb+") as out:
            out.truncate(len(text.encode()))
            os.fsync(out.fileno())
    else:
        replace_text(file, text)
    return [row for row in rows if not wanted(row)]


def _line(row: Row) -> str:
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n"


def replace_text(file: Path, text: str) -> None:
    """Writes a file so that it has either its old or its new content, never half of it."""
    temporary = file.with_name(f".{file.name}.new")
    try:
        with temporary.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # half of it would take up room
        raise
