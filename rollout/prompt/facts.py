"""What a run's settings say of workflows that their author should know: budgets, rounds, worker, what counts."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from reward.settings import RewardSettings
from rollout.settings import RolloutSettings
from sandbox.settings import SandboxSettings
from workflow.settings import WorkerSettings
from workflow.worker.crew import WorkerCard, name_workers


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """What meta-prompts show of a run."""

    calls: int = 40
    """Operator calls that a workflow may make."""
    calls_at_once: int = 8
    seconds: float = 120.0
    """Deadline of one workflow."""
    rounds: int = 1
    """Workflows that may be written one after another."""
    test_run_calls: float = 0.3
    """What one execution of tests counts in worker calls."""
    worker: str = ""
    """The worker LLM's name; empty where it has none."""
    worker_price: str = ""
    """Of its tokens, in words; empty where they cost nothing."""
    workers: tuple[WorkerCard, ...] = ()
    """Whom operators may ask by name; empty where the run has one worker."""


def shown(facts: PromptFacts) -> dict[str, Any]:
    """The facts by the names that templates have for them."""
    return {field.name: getattr(facts, field.name) for field in fields(facts)}


def prompt_facts(
    sandbox: SandboxSettings,
    rollout: RolloutSettings,
    reward: RewardSettings,
    worker: WorkerSettings,
    others: Mapping[str, WorkerSettings],
) -> PromptFacts:
    """The facts of a run with these settings."""
    prompt, completion = worker.prompt_dollars_per_million, worker.completion_dollars_per_million
    return PromptFacts(
        calls=sandbox.budget.calls,
        calls_at_once=sandbox.budget.concurrent_calls,
        seconds=sandbox.limits.workflow_wall_s,
        rounds=rollout.rounds,
        test_run_calls=reward.test_run_calls,
        worker=worker.model,
        worker_price=f"${prompt:g} per million tokens read and ${completion:g} per million written" if prompt or completion else "",
        workers=name_workers(worker, others),
    )
