"""Episodes as compact rows of episodes.jsonl: enough to see afterwards what the policy wrote and what became of it."""

from dataclasses import asdict
from typing import Any

from rollout.records import Episode, Group
from sandbox.records import Run


def episode_rows(step: int, group: Group) -> list[dict[str, Any]]:
    """One row per episode of a group."""
    return [_row(step, group, episode) for episode in group.episodes]


def _row(step: int, group: Group, episode: Episode) -> dict[str, Any]:
    completion = episode.completion
    return {
        "id": episode.id,
        "problem": group.problem.id,
        "step": step,
        "level": group.problem.level,
        "has_examples": group.problem.has_examples,
        "text": completion.text,
        "tokens": len(completion.token_ids),
        "finish": completion.finish_reason,
        "weights_version": completion.weights_version,
        "outcome": str(episode.outcome),
        "refusal": episode.refusal.message if episode.refusal else None,
        "fingerprint": episode.workflow.fingerprint if episode.workflow else None,
        "score": asdict(episode.score) if episode.score else None,
        "runs": [_run(run) for run in episode.runs],
    }


def _run(run: Run) -> dict[str, Any]:
    execution, verdict = run.execution, run.verdict
    return {
        "outcome": str(run.outcome),
        "performance": round(verdict.performance, 4) if verdict else None,
        "calls": execution.worker_calls,
        "test_runs": execution.test_runs,
        "cost": execution.cost_dollars,
        "wall_s": round(execution.wall_s, 4),
        "error": execution.error,
        "trace": [[call.operator, call.worker_calls, round(call.latency_s, 4), call.error] for call in execution.trace],
    }
