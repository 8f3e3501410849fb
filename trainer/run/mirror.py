"""A run folder that lies at a URL: a working copy on this machine, whose changes go there while the run goes on.

The storage is the truth: each start brings the run down into a new working copy, and what was not uploaded is lost with the
machine. Order matters on the way up: rows of metrics and episodes, then what checkpoints hold, then their manifests, then
state.json, so that whatever is there describes only what is there too. One process at a time may hold the run; nothing checks it.
"""

import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from trainer.cluster.settings import ClusterSettings
from trainer.run.at_url import connect, download

Stamp = tuple[int, int]
"""Size and time of change of a file."""
PASSING = (".partial", ".new")
"""Endings of what is about to be renamed."""
LONGEST_PAUSE_S = 30.0


class UploadError(Exception):
    """A file did not get to the storage, after all tries."""


class RunStorage:
    """The run at one URL and its working copy ``folder``."""

    def __init__(self, url: str, settings: ClusterSettings, say: Callable[[str], None], *, pause_s: float = 1.0) -> None:
        """Makes a working copy of what is at the URL, and shows that the URL can be written.

        Args:
            say: prints one line.
            pause_s: before the first try again; it doubles with each.

        Raises:
            ValueError: the URL's storage is unknown, its package is not installed, or the URL can be neither read nor written.
        """
        self.url = url.rstrip("/")
        self._files, self._root = connect(self.url)
        self._settings = settings
        self._say = say
        self._pause_s = pause_s
        caches = Path(settings.cache_dir or tempfile.gettempdir()).expanduser().absolute()
        caches.mkdir(parents=True, exist_ok=True)
        self._base = Path(tempfile.mkdtemp(prefix="flowreasoner-run-", dir=caches))
        self.folder = self._base / (self.url.rpartition("/")[2] or "run")
        self.folder.mkdir()
        self._make = cache(lambda folder: self._files.makedirs(folder, exist_ok=True))  # asking costs a request
        self._one_at_a_time = threading.Lock()
        self._wake = threading.Event()
        self._ends = threading.Event()
        self._uploading: threading.Thread | None = None
        self._failing = False
        try:
            download(self._files, self._root, self.folder)
            probe = f"{self._root}/.probe"
            self._make(self._root)
            self._files.pipe_file(probe, b"FlowReasoner")
            self._files.rm_file(probe)
        except Exception as error:
            self.discard()
            raise ValueError(
                f"trainer.run_dir={self.url!r} cannot be read and written ({type(error).__name__}: {error}): check the URL, the bucket and "
                "the keys in this environment."
            ) from None
        self._there = files_below(self.folder)
        """Files as they were when they were last brought up or down."""

    def begin(self) -> None:
        """Uploads from now on every ``upload_every_s`` seconds and whenever ``soon`` is called."""
        self._uploading = threading.Thread(target=self._upload_now_and_then, name="run-storage", daemon=True)
        self._uploading.start()

    def soon(self) -> None:
        """Something worth keeping was written."""
        self._wake.set()

    def push(self, folder: Path) -> str:
        """Uploads a folder of the working copy at once, for other machines to read; its URL. Raises UploadError."""
        part = folder.relative_to(self.folder).as_posix()
        self.sync(f"{part}/")
        return f"{self.url}/{part}"

    def sync(self, below: str = "") -> None:
        """Uploads all that changed and removes what is gone; stops at the first file that does not get there. Raises UploadError.

        Args:
            below: with what the names of those files begin.
        """
        with self._one_at_a_time:
            here = files_below(self.folder)
            changed = {name for name in here.keys() | self._there.keys() if here.get(name) != self._there.get(name)}
            names = sorted((name for name in changed if name.startswith(below)), key=rank)
            for name in names:
                if name in here:
                    self._try(name, lambda name=name: self._put(name))
                    self._there[name] = here[name]
            for name in reversed(names):
                if name not in here:
                    self._try(name, lambda name=name: self._files.rm_file(f"{self._root}/{name}"))
                    del self._there[name]

    def close(self) -> None:
        """Uploads the rest; the working copy goes once all of it is there, and stays otherwise."""
        self._ends.set()
        self._wake.set()
        if self._uploading is not None:
            self._uploading.join()
        try:
            self.sync()
        except UploadError as error:
            self._say(f"UPLOAD FAILED ({error}): what is missing at {self.url} is in {self.folder}; copy it before this machine goes.")
            return
        self.discard()
        self._say(f"The run is at {self.url}")

    def _upload_now_and_then(self) -> None:
        every_s = self._settings.upload_every_s
        while not self._ends.is_set():
            self._wake.wait(every_s)
            self._wake.clear()
            if self._ends.is_set():
                return
            try:
                self.sync()
            except UploadError as error:
                if not self._failing and not self._ends.is_set():
                    self._say(f"UPLOAD FAILED ({error}). The run goes on in {self.folder}; all is tried again every {every_s:g} s.")
                self._failing = True
            else:
                if self._failing:
                    self._say(f"All of the run is at {self.url} again.")
                self._failing = False

    def _put(self, name: str) -> None:
        target = f"{self._root}/{name}"
        self._make(target.rpartition("/")[0])
        self._files.put_file(str(self.folder / name), target)

    def _try(self, name: str, act: Callable[[], object]) -> None:
        """Does it, with pauses between tries. Raises UploadError after the last one."""
        retries = self._settings.upload_retries
        for attempt in range(retries + 1):
            try:
                act()
                return
            except Exception as error:  # each storage has errors of its own
                if isinstance(error, FileNotFoundError) and not (self.folder / name).exists():
                    return  # a checkpoint that was removed meanwhile
                if attempt == retries:
                    raise UploadError(f"{name}: {type(error).__name__}: {error}"[:200]) from None
            time.sleep(min(LONGEST_PAUSE_S, self._pause_s * 2**attempt))

    def discard(self) -> None:
        """Removes the working copy; nothing is uploaded."""
        shutil.rmtree(self._base, ignore_errors=True)


def files_below(folder: Path) -> dict[str, Stamp]:
    """The files of a run folder, without hidden ones, links and what is about to be renamed."""
    found: dict[str, Stamp] = {}
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not passing(name)]
        for file in (Path(path, name) for name in names if not passing(name)):
            with suppress(FileNotFoundError):  # removed meanwhile
                state = file.lstat()
                if not stat.S_ISLNK(state.st_mode):
                    found[file.relative_to(folder).as_posix()] = state.st_size, state.st_mtime_ns
    return found


def passing(name: str) -> bool:
    """True for names that no run needs later."""
    return name.startswith(".") or name.endswith(PASSING)


def rank(name: str) -> tuple[int, str]:
    """Sorts files in the order in which they go up."""
    if name == "state.json":
        return 3, name
    if name.startswith("checkpoints/"):
        return (2 if name.endswith("/manifest.json") else 1), name
    return 0, name
