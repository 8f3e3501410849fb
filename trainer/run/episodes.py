"""Episodes as compact rows of episodes.jsonl: enough to see afterwards what the policy wrote and what became of it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rollout.records import Episode, Group, Round
from sandbox.records import OperatorCall, Run
from workflow.worker.crew import DEFAULT_WORKER


def episode_rows(step: int, group: Group, trace_characters: int) -> list[dict[str, Any]]:
    """One row per episode of a group; prompts and replies of its operator calls are cut to ``trace_characters``."""
    rows = [_row(step, group, episode, trace_characters) for episode in group.episodes]
    for edit in group.edits:
        for place in {span.episode for span in edit.spans}:
            rows[place].setdefault("edits", []).append({"operator": edit.operator, "kind": edit.kind, "difference": edit.difference})
    return rows


def held_out_rows(name: str, groups: Sequence[Group], trace_characters: int) -> list[dict[str, Any]]:
    """The same of the episodes behind a row of the final table, with each run's answer and what each hidden and public test said."""
    rows: list[dict[str, Any]] = []
    for group in groups:
        for row, episode in zip(episode_rows(0, group, trace_characters), group.episodes, strict=True):
            rounds = zip(row.get("rounds", [row]), episode.rounds, strict=True)
            rows.append({"row": name, "benchmark": group.problem.source, **row})
            for shown, part in [(rows[-1], episode.result), *rounds]:
                for kept, run in zip(shown["runs"], part.runs, strict=True):
                    kept["answer"] = run.execution.answer
                    kept["tests"] = run.verdict.passed if run.verdict else None
                    kept["public_tests"] = run.public.passed if run.public else None
    return rows


def _row(step: int, group: Group, episode: Episode, trace_characters: int) -> dict[str, Any]:
    several = len(episode.rounds) > 1
    return {
        "id": episode.id,
        "problem": group.problem.id,
        "step": step,
        "level": group.problem.level,
        "has_examples": group.problem.has_examples,
        "weights_version": episode.weights_version,
        "outcome": str(episode.outcome),
        "score": asdict(episode.score) if episode.score else None,
        **_round(episode.result, trace_characters),
        **({"judged": episode.judged, "rounds": [_round(part, trace_characters) for part in episode.rounds]} if several else {}),
    }


def _round(part: Round, trace_characters: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "text": part.completion.text,
        "tokens": len(part.completion.token_ids),
        "finish": part.completion.finish_reason,
        "refusal": part.refusal.message if part.refusal else None,
        "fingerprint": part.workflow.fingerprint if part.workflow else None,
        "skeleton": part.workflow.skeleton if part.workflow else None,
        "runs": [_run(run, trace_characters) for run in part.runs],
    }
    if part.workflow and part.workflow.repairs:
        row["repairs"] = list(part.workflow.repairs)
    if part.feedback:
        row["feedback"] = part.feedback
    if part.score:
        row["reward"] = part.score.total
    return row


def _run(run: Run, trace_characters: int) -> dict[str, Any]:
    execution, verdict = run.execution, run.verdict
    return {
        "outcome": str(run.outcome),
        "performance": round(verdict.performance, 4) if verdict else None,
        **({"public": round(run.public.performance, 4)} if run.public else {}),
        **({"own_answer": True} if execution.own_answer else {}),
        "calls": execution.worker_calls,
        "test_runs": execution.test_runs,
        "cost": execution.cost_dollars,
        "wall_s": round(execution.wall_s, 4),
        "error": execution.error,
        "isolation": execution.isolation,
        "trust": verdict.trust if verdict else None,
        "trace": [_call(call, trace_characters) for call in execution.trace],
    }


def _call(call: OperatorCall, characters: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "operator": call.operator,
        "parent": call.parent,
        "worker_calls": call.worker_calls,
        "test_runs": call.test_runs,
        "tokens": [call.prompt_tokens, call.completion_tokens],
        "cost": call.cost_dollars,
        "started_s": round(call.started_s, 4),
        "latency_s": round(call.latency_s, 4),
    }
    if call.error:
        row["error"] = call.error
    if call.worker != DEFAULT_WORKER:
        row["worker"] = call.worker
    if call.truncated:
        row["truncated"] = call.truncated
    return row | {"prompt": call.prompt[:characters], "reply": call.reply[:characters]} if characters else row
