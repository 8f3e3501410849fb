"""One flat metrics dict a step, from the groups and from evaluations."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from reward.score import mean_terms
from rollout.fleet.health import EngineHealth
from rollout.fleet.publishing import Published
from rollout.groups.flat import is_flat
from rollout.groups.stream import StepGroups
from rollout.records import Group
from sandbox.records import Run
from trainer.evaluation.trials import Trials
from trainer.metrics.edits import edit_metrics
from workflow.operators import OPERATORS
from workflow.outcome import Outcome
from workflow.program import Workflow
from workflow.registry import short_name
from workflow.worker.crew import DEFAULT_WORKER

ENOUGH_WORKFLOWS = 8
"""Workflows in a step below which their entropy says nothing."""


def group_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Reward and its parts, outcomes, shapes of workflows and calls by level, over all episodes that a step collected, learnt or not.

    ``reward/*`` are means over scored episodes, ``outcome/*`` shares of all episodes, ``infra/masked`` the
    number of episodes that infrastructure failures kept out of the loss, ``workflow/no_worker`` the share of answers that
    derive from no reply of a worker, ``workflow/repaired`` that of workflows with a harmless habit that was put right.
    """
    episodes = [episode for group in groups for episode in group.episodes]
    rounds = [part for episode in episodes for part in episode.rounds]
    scores = [episode.score for episode in episodes if episode.score is not None]
    workflows = [part.workflow for part in rounds if part.workflow is not None]
    outcomes = Counter(episode.outcome for episode in episodes)
    masked = len(episodes) - len(scores)
    metrics: dict[str, float] = {"infra/masked": float(masked), "infra/masked_share": masked / len(episodes)}
    metrics |= {f"outcome/{outcome}": outcomes[outcome] / len(episodes) for outcome in Outcome if outcome is not Outcome.ANSWERED}
    if scores:
        metrics["reward/mean"] = float(np.mean([score.total for score in scores]))
        metrics["reward/std"] = float(np.std([score.total for score in scores]))
        metrics |= {f"reward/{name}": value for name, value in mean_terms([score.terms for score in scores]).items()}
        metrics["reward/floored"] = float(np.mean([score.floored for score in scores]))
    metrics["reward/zero_variance_groups"] = float(np.mean([is_flat(group) for group in groups]))
    metrics["workflow/valid"] = len(workflows) / len(rounds)
    if workflows:
        metrics["workflow/operators"] = float(np.mean([len(workflow.operators) for workflow in workflows]))
        metrics["workflow/units"] = float(np.mean([workflow.units for workflow in workflows]))
        metrics["workflow/distinct"] = float(len({workflow.skeleton for workflow in workflows})) / len(workflows)
        metrics["workflow/repaired"] = float(np.mean([bool(workflow.repairs) for workflow in workflows]))
        if len(workflows) >= ENOUGH_WORKFLOWS:
            metrics["workflow/topology_entropy"] = _entropy([workflow.skeleton for workflow in workflows])
    answered = [run for part in rounds for run in part.runs if run.verdict is not None]
    if answered:
        metrics["workflow/no_worker"] = float(np.mean([run.execution.own_answer or run.execution.worker_calls == 0 for run in answered]))
    metrics["completion/tokens"] = float(np.mean([sum(episode.response_mask) for episode in episodes]))
    metrics["completion/truncated"] = float(np.mean([part.completion.finish_reason == "length" for part in rounds]))
    metrics |= _operators(workflows) | _verifiers(groups) | _rounds(groups) | _calls(groups) | _tests(groups)
    return metrics | _worker(groups) | _workers(groups) | edit_metrics(groups)


def _operators(workflows: Sequence[Workflow]) -> dict[str, float]:
    """Of the workflows: the share that uses each operator; 0 for those that none uses."""
    used = Counter(name for workflow in workflows for name in set(workflow.operators))
    return {f"operator/{name}": used[name] / len(workflows) for name in dict.fromkeys([*OPERATORS, *sorted(used)])} if workflows else {}


def _verifiers(groups: Sequence[Group]) -> dict[str, float]:
    """Of the answers that each verifier judged: the share that passed."""
    passed: dict[str, list[bool]] = {}
    for group in groups:
        verdicts = [run.verdict for episode in group.episodes for part in episode.rounds for run in part.runs if run.verdict is not None]
        known = [verdict.outcome is Outcome.PASSED for verdict in verdicts if verdict.outcome is not Outcome.INFRA_ERROR]
        passed.setdefault(f"verifier/{short_name(group.problem.verifier)}", []).extend(known)
    return {name: float(np.mean(values)) for name, values in passed.items() if values}


def _rounds(groups: Sequence[Group]) -> dict[str, float]:
    """Rounds an episode takes, and what the workflow of each round is worth on hidden and, where there are any, on public tests."""
    lengths = [len(episode.rounds) for group in groups for episode in group.episodes]
    metrics: dict[str, float] = {"round/count": float(np.mean(lengths))}
    for number in range(max(lengths) if max(lengths) > 1 else 0):
        reached = [(group, episode.rounds[number]) for group in groups for episode in group.episodes if number < len(episode.rounds)]
        judged = [part.performance for _, part in reached if part.performance is not None]
        public = [part.public_performance for group, part in reached if group.problem.has_examples]
        metrics[f"round/{number + 1}_reached"] = len(reached) / len(lengths)
        metrics |= {f"round/{number + 1}_performance": float(np.mean(judged))} if judged else {}
        metrics |= {f"round/{number + 1}_public": float(np.mean(public))} if public else {}
    return metrics


def stream_metrics(taken: StepGroups) -> dict[str, float]:
    """How old the groups of a step are, and what stands behind them."""
    return {
        "staleness/mean": float(np.mean(taken.staleness)),
        "staleness/max": float(max(taken.staleness)),
        "stream/late": float(taken.late),
        "stream/ready": float(taken.left),
        "stream/flat": float(taken.flat),
        "stream/replaced": float(len(taken.replaced)),
        "stream/skipped": float(taken.skipped),
    }


def engine_metrics(engines: Sequence[EngineHealth], published: Published) -> dict[str, float]:
    """How fast each engine sampled since the weights before, and how the new ones reached it.

    ``engines/slowest_share`` compares the slowest engine with the middle one, where several had something to do.
    """
    rates = sorted(engine.tokens_per_s for engine in engines if engine.busy_s > 0)
    metrics = {
        "engines/tokens_per_s": sum(rates),
        "engines/oldest_request_s": max((engine.oldest_s for engine in engines), default=0.0),
        "engines/replaced": float(sum(engine.replaced for engine in engines)),
        "engines/cached_prompt_share": float(np.mean([engine.cached_share for engine in engines])) if engines else 0.0,
        "publish/s": published.seconds,
        "publish/mib": published.bytes / 2**20,
        "publish/buckets": float(published.buckets),
    }
    middle = float(np.median(rates)) if len(rates) > 1 else 0.0
    return metrics | ({"engines/slowest_share": rates[0] / middle} if middle else {})


def _entropy(names: Sequence[str]) -> float:
    """Entropy in nats of how often each name occurs."""
    shares = np.array(list(Counter(names).values())) / len(names)
    return float(-(shares * np.log(shares)).sum())


def _tests(groups: Sequence[Group]) -> dict[str, float]:
    """Of the answers that passed the public tests (as judged between rounds, else by the workflow's own last test run): the share
    whose hidden tests fail."""
    believed: list[bool] = []
    for group in groups:
        for run in {id(run): run for episode in group.episodes for part in episode.rounds for run in part.runs}.values():
            if group.problem.has_examples and run.verdict is not None and _passes_public(run):
                believed.append(run.verdict.outcome is not Outcome.PASSED)
    return {"tests/gap": float(np.mean(believed))} if believed else {}


def _passes_public(run: Run) -> bool:
    if run.public is not None:
        return run.public.outcome is Outcome.PASSED
    reports = [call.reply for call in run.execution.trace if call.operator == "test" and call.test_runs]
    return bool(reports) and reports[-1].startswith('{"passed": true')


def _calls(groups: Sequence[Group]) -> dict[str, float]:
    """Mean worker calls of the episodes in which a workflow ran, all rounds together: over all, and by level. And what all runs took,
    counterfactual ones included: dollars, and worker calls beyond those that a cache answers."""
    by_level: dict[str, list[int]] = {}
    spent: dict[int, Run] = {}
    for group in groups:
        for episode in group.episodes:
            attempt = episode.attempt
            for repeat in range(attempt.repeats):
                calls = sum(run.execution.worker_calls for run in attempt.spent(repeat))
                by_level.setdefault("mean", []).append(calls)
                if group.problem.level is not None:
                    by_level.setdefault(f"level_{group.problem.level}", []).append(calls)
            for run in (run for part in episode.rounds for run in part.runs):
                spent[id(run)] = run  # siblings may share one run: it was paid once
    edits = [edit for group in groups for edit in group.edits]
    dollars = sum(run.cost_dollars for run in spent.values()) + sum(edit.cost_dollars for edit in edits)
    asked = sum(run.execution.worker_calls for run in spent.values())
    asked += sum(edit.worker_calls - edit.repeated_calls for edit in edits)
    spend = {"spend/dollars": dollars, "spend/worker_calls": float(asked)}
    return {f"calls/{name}": float(np.mean(values)) for name, values in by_level.items()} | spend


def _workers(groups: Sequence[Group]) -> dict[str, float]:
    """Mean calls of a workflow's run to each worker, where several were asked."""
    runs = {id(run): run for group in groups for episode in group.episodes for part in episode.rounds for run in part.runs}.values()
    asked: Counter[str] = Counter()
    for call in (call for run in runs for call in run.execution.trace):
        asked[call.worker] += call.worker_calls
    return {f"worker/{name}/calls": calls / len(runs) for name, calls in asked.items()} if set(asked) - {DEFAULT_WORKER} else {}


def _worker(groups: Sequence[Group]) -> dict[str, float]:
    """Of the worker's replies: the share that its ``max_tokens`` cut off, thinking included; of the requests: the share refused."""
    runs = {id(run): run for group in groups for episode in group.episodes for part in episode.rounds for run in part.runs}.values()
    calls = [call for run in runs for call in run.execution.trace]
    asked, refused = sum(call.worker_calls for call in calls), sum(call.refused for call in calls)
    metrics = {"worker/truncated": sum(call.truncated for call in calls) / asked} if asked else {}
    return metrics | ({"worker/refused": refused / max(asked, refused)} if asked or refused else {})


def evaluation_metrics(trials: Trials) -> dict[str, float]:
    """Greedy validation during training."""
    if not trials.known:
        return {}
    return {
        "eval/reward": float(np.mean([trial.reward for trial in trials.known])),
        "eval/pass_rate": float(np.mean([trial.pass_rate for trial in trials.known])),
        "eval/calls": float(np.mean([trial.calls for trial in trials.known])),
    }
