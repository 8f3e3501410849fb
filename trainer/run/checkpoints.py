"""The checkpoints of a run: written whole and beside the work, checked before use; the newest and the best are kept.

    checkpoints/step_000020/   the learner's files, stream.json and groups.pkl (what was collected ahead), manifest.json

The manifest is written last and names every file with its size: a folder without it, or with files of other sizes, is torn and
is skipped. A checkpoint that cannot be written (a full disk) is reported and dropped; the run goes on.
"""

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rollout.groups.stream import StreamState
from trainer.failures import LearnerLostError
from trainer.run.settings import CheckpointSettings
from trainer.run.stream_file import read_stream, write_stream
from workflow.atomic import replace_file, replace_folder

MANIFEST = "manifest.json"


class Checkpointed(Protocol):
    """What can be saved and restored; ``trainer.learner.handle.Learner`` is the real one."""

    async def save(self, folder: Path) -> None:
        """Writes weights, optimizer, schedule and generators into an existing empty folder."""
        ...

    async def load(self, folder: Path) -> None:
        """Restores what ``save`` wrote. Raises ValueError where it fits another learner."""
        ...


class Checkpoints:
    """Saves and restores; one checkpoint is written at a time. An async context manager: leaving it waits for the last one."""

    def __init__(
        self, folder: Path, settings: CheckpointSettings, say: Callable[[str], None], saved: Callable[[Path], None] = lambda folder: None
    ) -> None:
        """
        Args:
            say: prints one line.
            saved: called with each checkpoint that was written.
        """
        self._folder = folder
        self._settings = settings
        self._say = say
        self._saved = saved
        self._writing: asyncio.Task[None] | None = None
        for leftover in folder.glob("*.partial"):
            shutil.rmtree(leftover)

    async def __aenter__(self) -> "Checkpoints":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.wait_written()

    def begin(self, step: int, learner: Checkpointed, stream: StreamState, score: float | None = None) -> None:
        """Begins to write the state after ``step`` finished GRPO steps; ``wait_written`` must be awaited before the learner changes.

        Args:
            score: validation reward at that step, where it was measured.
        """
        assert self._writing is None, "one checkpoint at a time"
        self._writing = asyncio.ensure_future(self._save(step, learner, stream, score))

    async def save(self, step: int, learner: Checkpointed, stream: StreamState, score: float | None = None) -> None:
        """Writes a checkpoint and waits for it."""
        await self.wait_written()
        self.begin(step, learner, stream, score)
        await self.wait_written()

    async def wait_written(self) -> None:
        """Waits until nothing is being written. A failure is reported, not raised."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            await writing
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            self._say(f"CHECKPOINT NOT SAVED ({type(error).__name__}: {reason[:300]}). The run goes on; free space or check the disk.")

    async def restore(self, learner: Checkpointed) -> tuple[int, StreamState | None]:
        """Loads the newest checkpoint that is whole.

        Returns:
            the number of finished GRPO steps and what was collected ahead of them; (0, None) where there is no checkpoint.

        Raises:
            ValueError: the checkpoint fits another learner (ranks, engine).
        """
        for step in reversed(find_steps(self._folder)):
            folder = step_folder(self._folder, step)
            if read_manifest(folder) is None:
                self._say(f"The checkpoint {folder} is torn and is skipped.")
                continue
            try:
                await learner.load(folder)
            except ValueError:
                raise
            except Exception as error:
                self._say(f"The checkpoint {folder} cannot be read ({type(error).__name__}) and is skipped.")
                continue
            self._say(f"Going on from the checkpoint after step {step}.")
            return step, read_stream(folder)
        return 0, None

    async def _save(self, step: int, learner: Checkpointed, stream: StreamState, score: float | None) -> None:
        folder = step_folder(self._folder, step)
        with replace_folder(folder) as partial:
            await learner.save(partial)
            await asyncio.to_thread(_finish, partial, stream, score)
        await asyncio.to_thread(self._remove_old)
        self._saved(folder)

    def _remove_old(self) -> None:
        """Keeps the newest whole checkpoints and, where asked for, the one with the best validation reward."""
        scores = whole_checkpoints(self._folder)
        kept: set[int | None] = set(list(scores)[-self._settings.keep :])
        if self._settings.keep_best:
            kept.add(best_step(scores))
        for step in set(find_steps(self._folder)) - kept:
            shutil.rmtree(step_folder(self._folder, step), ignore_errors=True)


class SavedOnError:
    """Saves a checkpoint where its block ends with an error that leaves the learner alive. An async context manager."""

    def __init__(self, checkpoints: Checkpoints, learner: Checkpointed, stream: Callable[[], StreamState]) -> None:
        self._checkpoints = checkpoints
        self._learner = learner
        self._stream = stream
        self.step: int | None = None
        """Finished steps, as weights and log agree; None while they do not: then the last regular checkpoint counts."""

    async def __aenter__(self) -> "SavedOnError":
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, LearnerLostError) and self.step is not None:
            await self._checkpoints.save(self.step, self._learner, self._stream())


def _finish(folder: Path, stream: StreamState, score: float | None) -> None:
    """Writes the stream beside the learner's files and the manifest of them all."""
    write_stream(folder, stream)
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    replace_file(folder / MANIFEST, json.dumps({"score": score, "files": sizes}, indent=1))


def step_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` finished steps lies in a folder of checkpoints."""
    return folder / f"step_{step:06d}"


def find_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, torn ones too, oldest first."""
    return sorted(int(found.name.removeprefix("step_")) for found in folder.glob("step_??????"))


def whole_checkpoints(folder: Path) -> dict[int, float | None]:
    """Steps of the whole checkpoints in a folder, oldest first, with the validation reward of each, where it was measured."""
    manifests = {step: read_manifest(step_folder(folder, step)) for step in find_steps(folder)}
    return {step: manifest.get("score") for step, manifest in manifests.items() if manifest is not None}


def best_step(scores: Mapping[int, float | None]) -> int | None:
    """The step with the best validation reward, the later of equals; None where none was measured."""
    return max(((score, step) for step, score in scores.items() if score is not None), default=(0.0, None))[1]


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint; None where the checkpoint is torn."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if whole else None
