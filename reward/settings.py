"""Settings of the reward."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from workflow.settings import Settings


def _with_module_names(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _with_module_names(value, f"{prefix}{name}.")
            continue
        module, dot, term = f"{prefix}{name}".rpartition(".")
        yield (f"{module}:{term}" if dot and ":" not in name else f"{prefix}{name}"), value


class RewardWeights(Settings):
    """Weight of each term by its name; a term that is not there counts 0. Also of terms of your own (``reward.terms``), by a registered
    name or as ``module:name`` (on the command line ``reward.weights.module.name``).

    The paper names performance, complexity and diversity; its weights are unpublished.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    performance: float = 1.0
    """At least 0."""
    complexity: float = -0.1
    diversity: float = 0.0
    calls: float = -0.025
    """Per worker call beyond the first."""
    cost: float = 0.0
    """Per dollar of worker tokens."""
    latency: float = 0.0
    """Per second of the workflow's own time and of serving its worker calls."""

    @model_validator(mode="before")
    @classmethod
    def _name_modules(cls, values: Any) -> Any:
        """``my.module.term``, and the nested mappings that the command line makes of it, become ``my.module:term``."""
        return dict(_with_module_names(values)) if isinstance(values, Mapping) else values

    @property
    def by_name(self) -> dict[str, float]:
        """Every weight, those of one's own terms too."""
        return self.model_dump()


class RewardSettings(Settings):
    """How a group of attempts is scored."""

    weights: RewardWeights = RewardWeights()
    floor: float = -0.2
    """At most 0; stands for the performance of a completion without a workflow that runs to an answer; its cost counts beside it."""
    require_worker: bool = True
    """An answer that the workflow wrote itself, deriving from no reply of the worker (``sandbox.origin`` says what is seen of that), earns
    the floor: the policy is to design workflows, not to solve the problems. False where it may."""
    test_run_calls: float = Field(default=0.3, ge=0)
    """What one execution of tests counts in worker calls."""
    complexity_free_units: int = Field(default=3, ge=0)
    """AST units that cost nothing (a single call)."""
    complexity_scale_units: float = Field(default=15.0, gt=0)
    """AST units beyond the free ones that make complexity 1."""
    complexity_max: float = Field(default=1.5, gt=0)
