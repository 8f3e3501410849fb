"""Settings of what a run keeps and whom it tells."""

from typing import Literal

from pydantic import Field

from workflow.settings import Settings


class CheckpointSettings(Settings):
    """When the state of a run is saved, and what is kept."""

    every_steps: int = Field(default=20, ge=1)
    keep: int = Field(default=2, ge=1)
    """The newest ones."""
    keep_best: bool = True
    """The one with the best validation reward, too."""


class LoggerSettings(Settings):
    """Sinks beside metrics.jsonl and the console."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """``auto``: online with a key, else offline."""
    wandb_project: str = "flowreasoner"
    wandb_group: str | None = None
    """Runs that belong together; a sweep sets it to its folder's name, and each of its runs has the job type ``trial``."""
    wandb_episodes: int = Field(default=8, ge=0)
    """Episodes in a W&B table, from the worst to the best reward of a step; 0: none."""
    wandb_episodes_every: int = Field(default=20, ge=1)
    """GRPO steps from one such table to the next."""
    wandb_artifacts: Literal["off", "policy", "checkpoints"] = "off"
    """What W&B keeps as artifacts: nothing, the SFT and the trained policy, or these and every checkpoint (as large as the optimizer
    state; an offline run keeps a copy of each)."""
    tensorboard: bool = False
    sinks: tuple[str, ...] = ()
    """Sinks and callbacks of your own beside these, by registered names or as ``module:name``: see ``trainer.run.sinks``."""
    episodes: bool = True
    """Write every episode to episodes.jsonl."""
    trace_characters: int = Field(default=300, ge=0, le=4000)
    """Length to which the prompt and the reply of each operator call are cut there; 0: neither is written."""
