"""What a rank of the learner needs to build its part; imports nothing of verl."""

import os
from dataclasses import dataclass

from trainer.settings import LearnerSettings


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """Model, topology and device of a learner."""

    model_path: str
    """Hugging Face folder or id."""
    settings: LearnerSettings
    device: str
    """``cpu`` or ``cuda``."""
    seed: int
    deterministic: bool = False
    """The same batches give the same weights to the last bit."""
    weights_dtype: str | None = None
    """torch's name for the type in which weights are sent, where it is shorter than their own; None: in their own."""
    imports: tuple[str, ...] = ()
    """``trainer.imports``: modules that register advantage estimators or policy losses, among others."""

    @property
    def threads(self) -> int:
        """Cores that one CPU rank computes with."""
        return self.settings.threads or max(1, (os.cpu_count() or 1) // (self.settings.ranks // self.settings.nodes))

    @property
    def precision(self) -> str:
        """``bf16`` or ``fp32``: what the forward and backward pass compute in."""
        if self.settings.precision == "auto":
            return "fp32" if self.device == "cpu" else "bf16"
        return self.settings.precision


@dataclass(frozen=True, slots=True)
class RankState:
    """One rank's process."""

    pid: int
    node_id: str
    """Ray's id of the machine it runs on."""
    rss_mib: float
    """Resident memory."""
