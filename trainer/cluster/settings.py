"""Settings of the machines that a run is spread over, and of the runs of a sweep that share them."""

from typing import Literal

from pydantic import Field

from workflow.settings import Settings

Strategy = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]


class ResourceSettings(Settings):
    """What each actor of a kind takes of Ray's custom resources, beside CPUs and GPUs: it runs only on nodes that offer them."""

    engines: dict[str, float] = {}
    learner: dict[str, float] = {}
    """Of each rank."""
    sandbox: dict[str, float] = {}
    """For example ``{sandbox: 1}`` where nodes without GPUs were started with ``--resources '{"sandbox": 16}'``: untrusted code then
    runs nowhere else."""


class ClusterSettings(Settings):
    """Where the actors run."""

    address: str | None = None
    """Ray address; None: start Ray here (or join the job's cluster)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: cuda where there is a GPU, and a refusal where there are too few; a policy that is made on the spot then takes the CPU."""
    object_store_mib: int = Field(default=512, ge=80)
    """Of a Ray that is started here."""
    resources: ResourceSettings = ResourceSettings()
    engines_strategy: Strategy = "PACK"
    """How Ray puts the engines on nodes: together as far as it goes, apart as far as it goes, or strictly so."""
    sandbox_strategy: Strategy = "SPREAD"
    placement_timeout_s: float = Field(default=300.0, gt=0)
    """How long a run waits for room for its actors, for example until an autoscaler has added nodes."""
    upload_every_s: float = Field(default=30.0, gt=0)
    """With a URL as ``trainer.run_dir``: how often changed files go there, beside each checkpoint and the end."""
    upload_retries: int = Field(default=4, ge=0)
    """Tries again of each file before the failure is reported; the next upload tries again."""
    cache_dir: str | None = None
    """Folder for the working copy of a run whose ``trainer.run_dir`` is a URL; None: the system's temporary folder."""


class SweepSettings(Settings):
    """How ``launch.train -m`` runs its trials; a single run has no use for it."""

    parallel: int = Field(default=0, ge=0)
    """Trials side by side on one Ray cluster; 0: as many as its CPUs and GPUs hold, at least one."""
    trials: int = Field(default=0, ge=0)
    """Trials that Optuna chooses among the given values and intervals; 0: every combination of the values."""
    objectives: tuple[Literal["reward", "pass_rate", "calls", "cost", "latency"], ...] = Field(default=("pass_rate", "calls"), min_length=1)
    """What Optuna trades off, measured on the held-out problems. Rewards under different weights are not comparable."""
    seed: int = 0
    """Of Optuna's sampler."""
