"""Settings of the alarms."""

from pydantic import Field

from workflow.settings import Settings


class AlarmSettings(Settings):
    """When a run says that something goes wrong; each bound is on the mean over the last ``window`` steps."""

    window: int = Field(default=5, ge=1)
    min_valid: float = Field(default=0.7, ge=0, le=1)
    """Share of completions with a workflow that can run."""
    min_topology_entropy: float = Field(default=0.2, ge=0)
    """Entropy of the workflows' fingerprints in a step, in nats; 0 where all are the same."""
    min_distinct: float = Field(default=0.01, ge=0, le=1)
    """Distinct workflows in a step over all of them."""
    max_test_gap: float = Field(default=0.3, ge=0, le=1)
    """Share of answers whose last test run passed in the workflow and whose hidden tests fail, among those whose last one passed."""
    max_no_worker: float = Field(default=0.1, ge=0, le=1)
    """Share of answers that no worker was asked for."""
    max_kl: float = Field(default=1.0, ge=0)
    """KL to the reference, where ``kl_coef`` asks for one."""
    max_rollout_gap: float = Field(default=0.05, ge=0)
    """Mean absolute difference of the log-probabilities of learner and rollouts."""
    max_rollout_kl: float = Field(default=0.1, ge=0)
    """KL from the policy that sampled to the one that learns, in nats per token."""
    min_engine_share: float = Field(default=0.3, ge=0, le=1)
    """Tokens a second of the slowest rollout engine over those of the middle one."""
    max_worker_truncated: float = Field(default=0.1, ge=0, le=1)
    """Share of the worker's replies that ``worker.max_tokens`` cut off."""
    max_masked: float = Field(default=0.2, ge=0, le=1)
    """Share of episodes that infrastructure failures kept out of the loss."""
