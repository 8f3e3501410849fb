"""Settings of the sandbox."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from workflow.settings import MayChange, Settings


class LimitSettings(Settings):
    """Limits of one process in the box."""

    wall_s: float = Field(default=10.0, gt=0)
    """Deadline of one judgement (all tests of one answer); a program that reads standard input has half of it for each input."""
    workflow_wall_s: float = Field(default=120.0, gt=0)
    """Deadline of one workflow run in its own time: what it waits for the worker does not count."""
    worker_wait_s: float = Field(default=1800.0, gt=0)
    """Seconds that one run may wait for the worker without being served, all its requests together, and that one request may take;
    a run beyond is lost to the machine, not scored."""
    cpu_s: int = Field(default=10, ge=1)
    memory_mib: int = Field(default=1024, ge=64)
    open_files: int = Field(default=64, ge=16)
    output_kib: int = Field(default=64, ge=1)
    """KiB of stdout and of stderr kept; of a judged program twice what its tests expect, where that is more."""


class BudgetSettings(Settings):
    """What one workflow run may spend; reserved before a call is sent."""

    calls: int = Field(default=40, ge=1)
    """Operator calls."""
    concurrent_calls: int = Field(default=8, ge=1)
    tokens: int = Field(default=200_000, ge=1)
    """Prompt and completion tokens of the worker together."""
    dollars: float = Field(default=1.0, gt=0)
    """Price of the worker tokens."""
    reserved_completion_tokens: int = Field(default=1024, ge=1)
    """Completion tokens set aside for a call that does not say how many it may use; a run takes ``worker.max_tokens``."""
    prompt_dollars_per_million: float = Field(default=0.0, ge=0)
    """Price at which prompt tokens are set aside; a run takes the worker's."""
    completion_dollars_per_million: float = Field(default=0.0, ge=0)
    """Price at which completion tokens are set aside; a run takes the worker's."""


class SandboxSettings(Settings):
    """Where workflows and candidates run."""

    min_level: Literal["landlock", "namespace"] = "landlock"
    """Isolation below which the sandbox refuses to start; the best that a machine reaches is used."""
    libraries: tuple[str, ...] = ()
    """Installed packages that programs in the box may import, for example ``[numpy, pandas]``; loaded once, before the forks."""
    actors: MayChange[int] = Field(default=2, ge=1)
    """Ray actors, each with its own zygote."""
    cpus_per_actor: float = Field(default=0.5, ge=0)
    """Logical CPUs that Ray sets aside for each actor."""
    slots_per_actor: MayChange[int] = Field(default=16, ge=1)
    """Workflow runs in flight in one actor; further ones wait."""
    retries: MayChange[int] = Field(default=2, ge=0)
    """Tries elsewhere after an infrastructure error."""
    verdict_cache_entries: MayChange[int] = Field(default=100_000, ge=0)
    """Verdicts kept by one actor, keyed by tests and answer; 0: judge every answer anew."""
    limits: LimitSettings = LimitSettings()
    budget: BudgetSettings = BudgetSettings()

    def with_libraries(self, libraries: Iterable[str]) -> "SandboxSettings":
        """The same with further packages."""
        return self.model_copy(update={"libraries": tuple(dict.fromkeys((*self.libraries, *sorted(libraries))))})
