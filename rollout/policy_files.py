"""Policies that lie at a URL: a copy on this machine, made once for all engines here."""

import fcntl
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

import fsspec


def is_url(place: str) -> bool:
    """True for ``s3://bucket/run`` and the like; False for a path or a hub id."""
    return "://" in place


def local_copy(policy: str | Path, cache: Path | None = None) -> Path:
    """A folder of this machine with the policy's files; a path or a hub id comes back as it is.

    Copies are kept by what the files are, so a policy that changed at its URL is fetched again.

    Args:
        policy: path, hub id, or the URL of a Hugging Face folder in any storage that fsspec knows.
        cache: folder for copies; None: ``flowreasoner-policies`` in the system's temporary folder.

    Raises:
        ValueError: nothing is at the URL, or it cannot be read.
    """
    if not is_url(str(policy)):
        return Path(policy)
    url = str(policy)
    try:
        files, root = cast(tuple[Any, str], fsspec.url_to_fs(url))
        files.invalidate_cache()
        found = {str(name): str(files.ukey(name)) for name in sorted(files.find(root))}
    except (OSError, ImportError, ValueError) as error:
        raise ValueError(f"The policy at {url} cannot be read ({type(error).__name__}: {error}): check the URL and its keys.") from None
    if not found:
        raise ValueError(f"There is no policy at {url}: give the URL of a Hugging Face folder.")
    cache = cache or Path(tempfile.gettempdir()) / "flowreasoner-policies"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / hashlib.sha256(repr((url, found)).encode()).hexdigest()[:20]
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # engines of one machine start at once
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            for name in found:
                target = partial / Path(name).relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                files.get_file(name, str(target))
            partial.replace(folder)
    return folder
