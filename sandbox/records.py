"""What a run in the sandbox leaves behind. Written by the trusted side only."""

from dataclasses import dataclass

from workflow.outcome import Outcome
from workflow.pickled import restore
from workflow.verifiers.verifier import Trust
from workflow.worker.crew import DEFAULT_WORKER


@dataclass(frozen=True, slots=True)
class OperatorCall:
    """One operator call of a workflow run."""

    index: int
    """Position in the order in which calls arrived."""
    operator: str
    arguments: str
    """The arguments as JSON, cut to a bounded length."""
    reply: str
    """The result as JSON, cut to a bounded length; empty where the call failed."""
    error: str
    """Why the call failed, as the workflow saw it; empty where it did not."""
    worker_calls: int
    """LLM requests that this call made (``test`` on public tests makes none), the one under way included where the run ended first."""
    test_runs: int
    """Times that this call executed tests."""
    prompt_tokens: int
    completion_tokens: int
    cost_dollars: float
    """As the endpoint reported them; of a request that was under way when the run ended, all that was reserved for it."""
    started_s: float
    """Seconds since the run's start."""
    latency_s: float
    prompt: str = ""
    """The last user message that was sent to the worker, cut to a bounded length; empty where none was."""
    parent: int = -1
    """Index of the call that ended last before this one began, -1 for none: calls with one parent ran side by side."""
    truncated: int = 0
    """Replies of the worker that its ``max_tokens`` cut off."""
    worker: str = DEFAULT_WORKER
    """Name of the worker that it asked."""
    refused: int = 0
    """Requests that the worker's endpoint did not take or whose reply it filtered."""

    __setstate__ = restore


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a workflow against a worker LLM."""

    outcome: Outcome
    """ANSWERED, CRASHED, TIMED_OUT, BUDGET_EXCEEDED or INFRA_ERROR."""
    answer: str | None
    """The text that the workflow returned; None where it returned none."""
    trace: tuple[OperatorCall, ...]
    error: str
    """Last line of the failure, bounded; empty for ANSWERED."""
    wall_s: float
    """Seconds that the workflow took: its own time and what serving its requests took, without what they waited in line."""
    isolation: str
    """Level of the box that ran it, for example ``namespace``."""
    own_answer: bool = False
    """True where the workflow wrote the answer itself: it does not derive from anything that the worker said (``sandbox.origin``)."""

    __setstate__ = restore

    @property
    def worker_calls(self) -> int:
        """LLM requests of the whole run."""
        return sum(call.worker_calls for call in self.trace)

    @property
    def test_runs(self) -> int:
        """Executions of tests of the whole run."""
        return sum(call.test_runs for call in self.trace)

    @property
    def cost_dollars(self) -> float:
        """Price of the worker tokens of the whole run."""
        return sum(call.cost_dollars for call in self.trace)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of one answer."""

    outcome: Outcome
    """PASSED, WRONG_ANSWER or INFRA_ERROR."""
    passed: tuple[bool, ...]
    """One entry a test, in order; all False where the candidate does not even load."""
    failures: tuple[str, ...]
    """One short message for each failed test, bounded; for public tests it may be shown to a workflow."""
    wall_s: float
    isolation: str
    trust: Trust = "split"
    late: bool = False
    """True where a deadline of the clock ended a test."""
    grades: tuple[float, ...] = ()
    """How much of each test is reached, where the verifier grades; else empty."""
    cost_dollars: float = 0.0
    """What an LLM that judged has cost; no part of what the workflow spent."""

    __setstate__ = restore

    @property
    def performance(self) -> float:
        """Share of tests passed, in [0, 1]; their mean grade where the verifier grades."""
        reached = self.grades or self.passed
        return sum(reached) / len(reached) if reached else 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """One execution with its verdict: what the pool returns."""

    execution: Execution
    verdict: Verdict | None
    """By the hidden tests; None where there was no answer to judge."""
    public: Verdict | None = None
    """By the public tests, where they were asked for: the only verdict that the policy may see."""

    @property
    def cost_dollars(self) -> float:
        """What all of it cost: the workflow's worker tokens, and an LLM that judged."""
        return self.execution.cost_dollars + sum(one.cost_dollars for one in (self.verdict, self.public) if one is not None)

    @property
    def outcome(self) -> Outcome:
        """INFRA_ERROR where either judge failed, else the hidden tests' verdict where there is one, else the execution's end."""
        if self.public is not None and self.public.outcome is Outcome.INFRA_ERROR:
            return Outcome.INFRA_ERROR
        return self.verdict.outcome if self.verdict is not None else self.execution.outcome

    @property
    def fault(self) -> str:
        """Why infrastructure failed; empty where it did not."""
        if self.execution.outcome is Outcome.INFRA_ERROR:
            return self.execution.error or "no reason given"
        lost = [verdict for verdict in (self.verdict, self.public) if verdict is not None and verdict.outcome is Outcome.INFRA_ERROR]
        return (lost[0].failures or ("no reason given",))[0] if lost else ""
