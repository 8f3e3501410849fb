"""Files of a run that survive a crash and a full disk: JSON Lines that end with a whole row, small files replaced as a whole.

What cannot be written waits in memory and is tried again; a run does not end because its log has no room.
"""

import json
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from workflow.atomic import replace_file

Row = dict[str, Any]
BLOCK_BYTES = 2**16


class PatientFile(ABC):
    """A file whose new content waits while it cannot be written. It says so once when that begins and once when all is written."""

    unit = "rows"
    """What waits, in words."""

    def __init__(self, file: Path, warn: Callable[[str], None]) -> None:
        """
        Args:
            warn: prints a line that stands out.
        """
        self.file = file
        self._warn = warn
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._reason = ""
        """Why the last try failed; empty where it did not."""

    def retry(self) -> None:
        """Writes what waits, as far as there is room."""
        try:
            if self._waiting:
                self._write()
        except OSError as error:
            if not self._reason:
                self._reason = error.strerror or str(error)
                self._warn(
                    f"NOT WRITTEN: {self.file} ({self._reason}). The run goes on; what is new waits in memory and is written as soon as "
                    "there is room: free some space."
                )
            return
        if self._reason:
            self._warn(f"{self.file} is written again{f', but {self._dropped} rows had been dropped' if self._dropped else ''}.")
            self._reason, self._dropped = "", 0

    def close(self) -> None:
        """A last try; a sentence on what is lost."""
        self.retry()
        if self._waiting:
            self._warn(f"LOST: {len(self._waiting) + self._dropped} {self.unit} of {self.file} could not be written ({self._reason}).")

    @abstractmethod
    def _write(self) -> None:
        """Writes what waits. Raises OSError where not all of it is written."""


class WholeFile(PatientFile):
    """A small file that is replaced as a whole; of contents that wait, the newest counts."""

    unit = "version"

    def write(self, text: str) -> None:
        """Replaces the file's content, now or as soon as there is room."""
        self._waiting = deque([text.encode()])
        self.retry()

    def _write(self) -> None:
        replace_file(self.file, self._waiting[0])
        self._waiting.clear()


class Appender(PatientFile):
    """A JSON Lines file that grows. Where a write fails, it ends with its last whole row and the rest waits, in order."""

    def __init__(self, file: Path, warn: Callable[[str], None], max_waiting_bytes: int | None = None) -> None:
        """Cuts off what a crash left of a row.

        Args:
            max_waiting_bytes: beyond it the oldest waiting rows are dropped; None: none ever is.
        """
        super().__init__(file, warn)
        self._max_waiting_bytes = max_waiting_bytes
        drop_half_line(file)

    def append(self, rows: Iterable[Row]) -> None:
        """Writes what waits and then these rows, as far as there is room."""
        self._waiting.extend(json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for row in rows)
        self.retry()
        size, bound = sum(map(len, self._waiting)), self._max_waiting_bytes
        if bound is None or size <= bound:
            return
        if not self._dropped:
            self._warn(f"DROPPING rows of {self.file}: more than {bound / 2**20:.4g} MiB of them wait; the oldest go first.")
        while size > bound:
            size -= len(self._waiting.popleft())
            self._dropped += 1

    def rows(self) -> list[Row]:
        """All rows: those in the file, then those that wait."""
        return [*read_rows(self.file), *map(json.loads, self._waiting)]

    def keep(self, wanted: Callable[[Row], bool]) -> list[Row]:
        """Removes the rows that are not wanted, waiting ones too, and returns them."""
        self.retry()
        removed = keep_rows(self.file, wanted)
        kept, waiting = _divide(self._waiting, wanted)
        self._waiting = deque(kept)
        return removed + waiting

    def _write(self) -> None:
        """Row by row: those before a failure stay written, and what was written of the next one is cut off."""
        if self._reason:  # an earlier failure may have left half a row that could not be cut off
            drop_half_line(self.file)
        try:
            with self.file.open("ab", buffering=0) as out:
                while self._waiting:
                    rest = memoryview(self._waiting[0])
                    while rest:
                        rest = rest[out.write(rest) :]
                    self._waiting.popleft()
        except OSError:
            with suppress(OSError):  # the next try cuts it off
                drop_half_line(self.file)
            raise


def read_rows(file: Path) -> list[Row]:
    """The rows of a JSON Lines file; none where there is no file. A half-written last line is left out."""
    return [json.loads(line) for line in _whole_lines(file)]


def keep_rows(file: Path, wanted: Callable[[Row], bool]) -> list[Row]:
    """Leaves a JSON Lines file with the wanted rows alone and returns the others. Where those are at its end, it is cut in place."""
    lines = _whole_lines(file)
    kept, removed = _divide(lines, wanted)
    if lines[: len(kept)] != kept:
        replace_file(file, b"".join(kept))
    elif removed:
        _cut(file, sum(map(len, kept)))
    return removed


def drop_half_line(file: Path) -> None:
    """Cuts off what a crash or a full disk left of a line."""
    if not file.exists():
        return
    with file.open("rb") as lines:
        whole = end = lines.seek(0, os.SEEK_END)
        newline = -1
        while whole and newline < 0:
            begin = max(0, whole - BLOCK_BYTES)
            lines.seek(begin)
            newline = lines.read(whole - begin).rfind(b"\n")
            whole = begin + newline + 1
    if whole < end:
        _cut(file, whole)


def _whole_lines(file: Path) -> list[bytes]:
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []  # bytes: U+2028 ends no line
    return lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]


def _divide(lines: Iterable[bytes], wanted: Callable[[Row], bool]) -> tuple[list[bytes], list[Row]]:
    """The lines that are wanted, and the rows that are not."""
    rows = [(line, json.loads(line)) for line in lines]
    return [line for line, row in rows if wanted(row)], [row for _, row in rows if not wanted(row)]


def _cut(file: Path, size: int) -> None:
    with file.open("rb+") as out:
        out.truncate(size)
        os.fsync(out.fileno())
