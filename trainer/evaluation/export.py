"""A policy of a run as a Hugging Face folder of its own, from the trained policy or from a checkpoint."""

import asyncio
import json
import shutil
from pathlib import Path

from rollout.policies import is_made
from trainer.run.checkpoints import best_step, step_folder, whole_checkpoints
from trainer.run.state import RunState
from trainer.settings import RunSettings
from workflow.atomic import replace_folder

MARKER = "flowreasoner.json"
"""In each export: which run and step it is of. A folder without it is not overwritten."""


def choose_step(run_dir: Path, wanted: str | None) -> int | None:
    """The finished GRPO steps of the wanted checkpoint; None for the trained policy.

    Args:
        wanted: ``best``, ``latest``, a number of steps, or None for the trained policy.

    Raises:
        ValueError: the run has no such thing; the message says what it has.
    """
    scores = whole_checkpoints(run_dir / "checkpoints")
    have = f"checkpoints after steps {', '.join(map(str, scores))}" if scores else "no whole checkpoint"
    if wanted is None:
        if not (run_dir / "policy" / "config.json").exists():
            remedy = "name one with --checkpoint best|latest|STEP" if scores else "let launch.train finish GRPO first"
            raise ValueError(f"{run_dir} has no trained policy yet and {have}: {remedy}.")
        return None
    if wanted == "latest" and scores:
        return max(scores)
    if wanted == "best" and scores:
        if (best := best_step(scores)) is None:
            raise ValueError(f"{run_dir} has {have}, none with a validation reward (trainer.evaluation.every_steps): use latest.")
        return best
    if wanted.isdecimal() and int(wanted) in scores:
        return int(wanted)
    raise ValueError(f"--checkpoint {wanted}: {run_dir} has {have}; give best, latest or one of these steps.")


def start_policy(settings: RunSettings, run_dir: Path) -> Path:
    """What GRPO of a run started from: the SFT policy where the run made one, else the base policy."""
    if "sft" in RunState.read(run_dir / "state.json").stages:
        return run_dir / "sft"
    return run_dir / "base" if is_made(settings.model.path) else Path(settings.model.path)


async def export(settings: RunSettings, run_dir: Path, step: int | None, folder: Path) -> None:
    """Writes ``folder``: a copy of the trained policy, or (``step``) the policy of that checkpoint, for which a learner starts.

    Raises:
        ValueError: the folder holds other files, or the checkpoint does not fit the learner's settings.
    """
    check_target(folder)
    with replace_folder(folder, MARKER) as partial:
        if step is None:
            shutil.copytree(run_dir / "policy", partial, dirs_exist_ok=True)
        else:
            await _export_checkpoint(settings, start_policy(settings, run_dir), step_folder(run_dir / "checkpoints", step), partial)
        score = whole_checkpoints(run_dir / "checkpoints").get(step) if step is not None else None
        (partial / MARKER).write_text(json.dumps({"run": str(run_dir.absolute()), "step": step, "validation_reward": score}, indent=1))
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors makes files that nobody else may read, and a server is often another user


async def _export_checkpoint(settings: RunSettings, start: Path, checkpoint: Path, folder: Path) -> None:
    from trainer.cluster.session import device_of, sigterm_kept, start_ray, stop_ray  # seconds to import, which a copy does not need
    from trainer.learner.handle import Learner
    from trainer.run.terminal import quiet_libraries

    quiet_libraries()
    with sigterm_kept():
        temp = await asyncio.to_thread(start_ray, settings)
    learner = Learner(start, settings.learner, device=device_of(settings, engines=False), seed=settings.trainer.seed)
    grpo = settings.trainer.grpo
    try:
        await learner.start()
        await learner.configure_optimizer(grpo.optimizer, grpo.steps * grpo.updates_per_step)  # its state is in the checkpoint
        await learner.load(checkpoint)
        await learner.export(folder)
    finally:
        await learner.close()
        stop_ray(temp)


def check_target(folder: Path) -> None:
    """Raises ValueError where ``folder`` holds anything but an earlier export."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--to {folder} is a file: name a new or empty folder.")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise ValueError(f"--to {folder} holds other files and no earlier export: name a new or empty folder.")
