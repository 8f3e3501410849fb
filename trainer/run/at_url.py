"""Reading a run that lies at a URL, in any storage that fsspec knows."""

import tempfile
from pathlib import Path
from typing import Any, cast

import fsspec

from rollout.policy_files import is_url


def connect(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it. Raises ValueError where fsspec has no such file system."""
    try:
        files, root = cast(tuple[Any, str], fsspec.url_to_fs(url))
    except (ImportError, ValueError) as error:
        raise ValueError(f"{url!r} is in a storage that is not known here ({error}): install the package, or give a path.") from None
    files.invalidate_cache()
    return files, root.rstrip("/")


def download(files: Any, root: str, folder: Path, without: str | None = None) -> None:
    """Copies what is below a path of a storage into a folder, except what begins with ``without``."""
    prefix = files._strip_protocol(root).rstrip("/") + "/"
    for name in sorted(str(name).removeprefix(prefix) for name in (files.find(root) if files.exists(root) else [])):
        if without is None or not name.startswith(without):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            files.get_file(f"{root}/{name}", str(folder / name))


def fetch(run: str | Path) -> Path:
    """The run folder itself, or a copy of the run at a URL without its checkpoints, for commands that read it.

    Raises:
        ValueError: there is no run at the URL.
    """
    if not is_url(str(run)):
        return Path(run)
    files, root = connect(str(run))
    folder = Path(tempfile.mkdtemp(prefix="flowreasoner-copy-")) / (root.rpartition("/")[2] or "run")
    try:
        download(files, root, folder, without="checkpoints/")
    except Exception as error:
        raise ValueError(f"The run at {run} cannot be read ({type(error).__name__}: {error}): check the URL and the keys.") from None
    if not (folder / "config.yaml").exists():
        raise ValueError(f"{run} is not a run (it has no config.yaml): give the trainer.run_dir of a run.")
    return folder


def settings_at(url: str) -> str | None:
    """The config.yaml of the run at a URL; None where there is none. Raises ValueError where the URL cannot be read."""
    files, root = connect(url)
    try:
        return files.cat_file(f"{root}/config.yaml").decode() if files.exists(f"{root}/config.yaml") else None
    except Exception as error:
        raise ValueError(f"trainer.run_dir={url!r} cannot be read ({type(error).__name__}: {error}): check the URL and the keys.") from None
