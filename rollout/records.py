"""What travels from the policy to the learner."""

from dataclasses import dataclass
from statistics import fmean

from reward.attempt import Attempt
from reward.score import Score
from sandbox.records import Run
from workflow.outcome import Outcome
from workflow.pickled import restore
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
class Round:
    """One turn of the policy: the feedback that it read last, the completion, and what became of its workflow."""

    completion: Completion
    workflow: Workflow | None
    refusal: Refusal | None
    """Set exactly where ``workflow`` is None."""
    runs: tuple[Run, ...]
    """Executions of the workflow with their verdicts; empty for a refusal."""
    feedback: str = ""
    """The feedback on the previous round that the policy read; empty in the first round."""
    feedback_ids: tuple[int, ...] = ()
    """The tokens between the completion before and this one: end of turn, feedback, start of turn. No loss is taken on them."""
    score: Score | None = None
    """What the round is worth by itself, where ``trainer.grpo.credit=round`` asks for it (``rollout.groups.credit``)."""

    __setstate__ = restore

    @property
    def performance(self) -> float | None:
        """Mean share of hidden tests passed: the round's own reward; None where no run was judged."""
        judged = [run.verdict.performance for run in self.runs if run.verdict is not None]
        return fmean(judged) if judged else 0.0 if self.refusal is not None else None

    @property
    def public_performance(self) -> float:
        """Mean share of public tests passed; 0 where the workflow did not get that far."""
        return fmean(run.public.performance if run.public is not None else 0.0 for run in self.runs) if self.runs else 0.0


@dataclass(frozen=True, slots=True)
class Episode:
    """One conversation with the policy about one problem (paper section 3.3: multi-round), and what it is worth."""

    id: str
    rounds: tuple[Round, ...]
    """At least one; each further one answers the feedback on the one before."""
    judged: int
    """Index of the round whose workflow is the episode's result."""
    score: Score | None
    """None where infrastructure failed: masked out of the loss."""

    @property
    def result(self) -> Round:
        """The judged round."""
        return self.rounds[self.judged]

    @property
    def completion(self) -> Completion:
        """The judged round's."""
        return self.result.completion

    @property
    def workflow(self) -> Workflow | None:
        """The judged round's."""
        return self.result.workflow

    @property
    def refusal(self) -> Refusal | None:
        """The judged round's."""
        return self.result.refusal

    @property
    def runs(self) -> tuple[Run, ...]:
        """The judged round's."""
        return self.result.runs

    @property
    def attempt(self) -> Attempt:
        """The episode as the reward sees it: the judged round, and what the others spent."""
        others = tuple(part.runs for index, part in enumerate(self.rounds) if index != self.judged and part.runs)
        texts = tuple(part.completion.text for part in self.rounds)
        return Attempt(self.workflow, self.runs, others, texts, sum(len(part.completion.token_ids) for part in self.rounds))

    @property
    def round_spans(self) -> tuple[tuple[int, int], ...]:
        """Of each round: the places in ``response_ids`` [first, end) of the tokens that it sampled."""
        spans: list[tuple[int, int]] = []
        for part in self.rounds:
            start = (spans[-1][1] if spans else 0) + len(part.feedback_ids)
            spans.append((start, start + len(part.completion.token_ids)))
        return tuple(spans)

    @property
    def response_ids(self) -> tuple[int, ...]:
        """All tokens after the meta-prompt, as they were sampled or read: completions with the feedback between them."""
        return tuple(token for part in self.rounds for token in (*part.feedback_ids, *part.completion.token_ids))

    @property
    def response_mask(self) -> tuple[int, ...]:
        """1 on sampled tokens, 0 on feedback."""
        return tuple(bit for part in self.rounds for bit in ((0,) * len(part.feedback_ids) + (1,) * len(part.completion.token_ids)))

    @property
    def response_logprobs(self) -> tuple[float, ...]:
        """Log-probability of each sampled token, 0 on feedback."""
        return tuple(value for part in self.rounds for value in ((0.0,) * len(part.feedback_ids) + part.completion.logprobs))

    @property
    def weights_version(self) -> int:
        """The oldest version of the weights that sampled any of its tokens."""
        return min(part.completion.weights_version for part in self.rounds)

    @property
    def outcome(self) -> Outcome:
        """The refusal's outcome, else INFRA_ERROR if unscored, else the first run's."""
        if self.refusal is not None:
            return self.refusal.outcome
        if self.score is None or not self.runs:
            return Outcome.INFRA_ERROR
        return self.runs[0].outcome


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens of an episode that wrote one operator call."""

    episode: int
    """Its place in the group."""
    start: int
    """Place in ``response_ids`` of the first token."""
    end: int
    """Of the first token after them."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A counterfactual run: a workflow of the group without one of its operator calls (``rollout.groups.counterfactual``)."""

    operator: str
    kind: str
    """What stood in the call's place, one of ``workflow.language.edits``."""
    difference: float | None
    """Reward of the workflow less that of the edited one: what the call is worth. None where a machine failed."""
    spans: tuple[Span, ...]
    """The call in each episode that wrote this workflow."""
    unplaced: int
    """Episodes that wrote it in such a way that the call's tokens are not known."""
    worker_calls: int
    """That the edited runs made."""
    repeated_calls: int
    """Those of them that the workflow itself had made with the same arguments, so that the worker's cache had the replies."""
    cost_dollars: float
    """Of all calls; replies from the cache are billed like the original."""
    performance: float | None = None
    """Performance of the workflow less that of the edited one."""


@dataclass(frozen=True, slots=True)
class Group:
    """The sibling episodes of one problem: the unit of reward and of advantage."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    """Meta-prompt in the policy's tokens."""
    episodes: tuple[Episode, ...]
    edits: tuple[Edit, ...] = ()
    """Counterfactual runs, where ``trainer.grpo.credit=span`` asks for them. They count in what was spent and never in a reward."""

    __setstate__ = restore
