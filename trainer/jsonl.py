"""JSON Lines files that survive a crash: appended and flushed, repaired when opened, rewritten by renaming."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def append_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    """Appends rows as JSON lines in one flushed write."""
    text = "".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n" for row in rows)
    with file.open("a", encoding="utf-8") as out:
        out.write(text)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file; none where there is no file. A half-written last line is left out."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]


def drop_half_line(file: Path) -> None:
    """Cuts off what a crash left of a line."""
    if file.exists() and (data := file.read_bytes()) and not data.endswith(b"\n"):
        with file.open("rb+") as out:
            out.truncate(data.rfind(b"\n") + 1)


def keep_rows(file: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrites a JSON Lines file with the wanted rows alone; leaves it as it is where all are wanted."""
    rows = read_rows(file)
    kept = [row for row in rows if wanted(row)]
    if len(kept) < len(rows):
        replace_text(file, "".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n" for row in kept))


def replace_text(file: Path, text: str) -> None:
    """Writes a file so that it has either its old or its new content, never half of it."""
    temporary = file.with_name(f".{file.name}.new")
    with temporary.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
