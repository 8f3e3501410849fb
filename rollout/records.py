"""What travels from the policy to the learner."""

from dataclasses import dataclass

from reward.score import Score
from sandbox.records import Run
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Refusal, Workflow


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample of the policy."""

    text: str
    """Decoded tokens without special ones."""
    token_ids: tuple[int, ...]
    """Sampled ids, end-of-text included where it was sampled."""
    logprobs: tuple[float, ...]
    """Log-probability of each sampled id under the sampling policy."""
    weights_version: int
    """Version of the weights that sampled it; the oldest where an update of the weights came in between."""
    finish_reason: str
    """``stop`` or ``length``."""
    spans: tuple[tuple[int, int], ...] = ()
    """(weights version, tokens) of each stretch of tokens in order; one span of all tokens where left out."""
    cached_prompt_tokens: int = 0
    """Prompt tokens whose keys and values the engine still had, so that only the others were computed."""

    def __post_init__(self) -> None:
        if not self.spans:
            object.__setattr__(self, "spans", ((self.weights_version, len(self.token_ids)),))
        assert sum(tokens for _, tokens in self.spans) == len(self.token_ids), f"{self.spans} for {len(self.token_ids)} tokens"
        assert min(version for version, _ in self.spans) == self.weights_version, f"{self.spans} with version {self.weights_version}"


@dataclass(frozen=True, slots=True)
class Episode:
    """One completion, what became of it, and what it is worth."""

    id: str
    completion: Completion
    workflow: Workflow | None
    refusal: Refusal | None
    """Set exactly where ``workflow`` is None."""
    runs: tuple[Run, ...]
    """Executions of the workflow with their verdicts; empty for a refusal."""
    score: Score | None
    """None where infrastructure failed: masked out of the loss."""

    @property
    def outcome(self) -> Outcome:
        """The refusal's outcome, else INFRA_ERROR if unscored, else the first run's."""
        if self.refusal is not None:
            return self.refusal.outcome
        if self.score is None or not self.runs:
            return Outcome.INFRA_ERROR
        return self.runs[0].outcome


@dataclass(frozen=True, slots=True)
class Group:
    """The sibling episodes of one problem: the unit of reward and of advantage."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    """Meta-prompt in the policy's tokens."""
    episodes: tuple[Episode, ...]
