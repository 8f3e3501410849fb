"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def replace_file(file: Path, content: str | bytes) -> None:
    """Writes a file so that it has either its old or its new content, never half of it; also after the machine's end."""
    temporary = file.with_name(f".{file.name}.new")
    try:
        with temporary.open("wb") as out:
            out.write(content.encode() if isinstance(content, str) else content)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # half of it would take up room
        raise


@contextmanager
def replace_folder(folder: Path, marker: str | None = None) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place once the block has filled it.

    Args:
        marker: a file by which an earlier result is known, which alone is replaced; None: whatever is there is replaced.

    Raises:
        ValueError: ``folder`` holds something else than an earlier result.
    """
    if marker and folder.exists() and any(folder.iterdir()) and not (folder / marker).exists():
        raise ValueError(f"{folder} holds other files and will not be overwritten: name an empty folder.")
    partial = folder.absolute().with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
