"""A folder that appears whole or not at all."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path


@contextlib.asynccontextmanager
async def written_whole(folder: Path, marker: str) -> AsyncIterator[Path]:
    """A temporary folder beside ``folder`` that takes its place once all is written.

    Raises:
        ValueError: ``folder`` holds something else than an earlier result, known by ``marker``.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / marker).exists():
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
