"""Settings of the reward."""

from pydantic import Field

from workflow.settings import Settings


class RewardWeights(Settings):
    """Weight of each term; the paper names performance, complexity and diversity, its weights are unpublished."""

    performance: float = 1.0
    """At least 0."""
    complexity: float = -0.1
    diversity: float = 0.0
    calls: float = -0.025
    """Per worker call beyond the first."""
    cost: float = 0.0
    """Per dollar of worker tokens."""
    latency: float = 0.0
    """Per second of wall time of the workflow."""


class RewardSettings(Settings):
    """How a group of attempts is scored."""

    weights: RewardWeights = RewardWeights()
    floor: float = -0.2
    """At most 0; stands for the performance of a completion without a workflow that runs to an answer; its cost counts beside it."""
    test_run_calls: float = Field(default=0.3, ge=0)
    """What one execution of tests counts in worker calls."""
    complexity_free_units: int = Field(default=3, ge=0)
    """AST units that cost nothing (a single call)."""
    complexity_scale_units: float = Field(default=15.0, gt=0)
    """AST units beyond the free ones that make complexity 1."""
    complexity_max: float = Field(default=1.5, gt=0)
