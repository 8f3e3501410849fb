"""Alarms: what of a run's own numbers says that something goes wrong, with the reason and what to look at.

Each rule looks at the mean of a metric over the last ``window`` steps, so that one odd batch raises nothing. An alarm is raised once
when it begins and once when it ends; while it lasts, ``alarm/<name>`` is 1 in every step's metrics.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.metrics.settings import AlarmSettings


@dataclass(frozen=True, slots=True)
class Rule:
    """One way of going wrong."""

    name: str
    metric: str
    bound: Callable[[AlarmSettings], float]
    above: bool
    """True where values above the bound are bad, False where those below it are."""
    meaning: str
    """What it means and what to look at."""


RULES = (
    Rule(
        "invalid_workflows",
        "workflow/valid",
        lambda s: s.min_valid,
        False,
        "the policy forgets the workflow language: lower the learning rate, raise trainer.grpo.kl_coef, or train SFT longer",
    ),
    Rule(
        "collapse",
        "workflow/topology_entropy",
        lambda s: s.min_topology_entropy,
        False,
        "nearly all workflows are the same: raise reward.weights.diversity or rollout.temperature, or check the cost weights",
    ),
    Rule(
        "few_workflows",
        "workflow/distinct",
        lambda s: s.min_distinct,
        False,
        "hardly any two workflows of a step differ: raise reward.weights.diversity or rollout.temperature, or check the cost weights",
    ),
    Rule(
        "reward_hacking",
        "tests/gap",
        lambda s: s.max_test_gap,
        True,
        "answers pass the public tests and fail the hidden ones: the policy exploits the examples; read such episodes in episodes.jsonl",
    ),
    Rule(
        "no_worker",
        "workflow/no_worker",
        lambda s: s.max_no_worker,
        True,
        "answers come without a worker call: the policy writes the solution into the workflow instead of designing one; read such "
        "episodes in episodes.jsonl, and weigh calls and cost less, since an answer of its own costs neither",
    ),
    Rule(
        "drift",
        "actor/kl",
        lambda s: s.max_kl,
        True,
        "the policy runs away from its reference: lower the learning rate or raise trainer.grpo.kl_coef",
    ),
    Rule(
        "rollout_mismatch",
        "actor/rollout_gap_mean",
        lambda s: s.max_rollout_gap,
        True,
        "rollouts and learner disagree about log-probabilities: weights did not arrive, or their precisions differ",
    ),
    Rule(
        "rollout_kl",
        "actor/rollout_kl",
        lambda s: s.max_rollout_kl,
        True,
        "the policy that sampled is far from the one that learns: lower trainer.max_staleness or the learning rate, or weigh it "
        "with trainer.grpo.rollout_is",
    ),
    Rule(
        "slow_engine",
        "engines/slowest_share",
        lambda s: s.min_engine_share,
        False,
        "one rollout engine samples far slower than the others: look at its machine, and what else runs on its device",
    ),
    Rule(
        "worker_truncated",
        "worker/truncated",
        lambda s: s.max_worker_truncated,
        True,
        "the worker's replies are cut off (those of a reasoning model even before their first word) and judged as they are: raise "
        "worker.max_tokens",
    ),
    Rule(
        "masked",
        "infra/masked_share",
        lambda s: s.max_masked,
        True,
        "many episodes are lost to failures of machines or of the worker endpoint: see outcome/infra_error and the worker's log",
    ),
)


class Alarms:
    """Watches the metrics of the steps in order."""

    def __init__(self, settings: AlarmSettings, earlier: Iterable[Mapping[str, Any]] = ()) -> None:
        """
        Args:
            earlier: rows of metrics.jsonl of the steps before: what a resumed run had seen and said.
        """
        self._settings = settings
        self._seen: dict[str, deque[float]] = {rule.name: deque(maxlen=settings.window) for rule in RULES}
        self._on: set[str] = set()
        for row in earlier:
            for rule in RULES:
                if rule.metric in row:
                    self._seen[rule.name].append(math.nan if row[rule.metric] is None else row[rule.metric])
            self._on = {rule.name for rule in RULES if row.get(f"alarm/{rule.name}")}

    def check(self, metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
        """Metrics of the alarms that are on, and one sentence for each that began or ended with this step."""
        said: list[str] = []
        for rule in RULES:
            if rule.metric not in metrics:
                continue
            seen = self._seen[rule.name]
            seen.append(metrics[rule.metric])
            if len(seen) < self._settings.window:
                continue
            mean, bound = sum(seen) / len(seen), rule.bound(self._settings)
            bad = mean > bound if rule.above else mean < bound
            side = "above" if rule.above else "below"
            if bad and rule.name not in self._on:
                said.append(f"ALARM {rule.name}: {rule.metric} is {mean:.3g} over {len(seen)} steps, {side} {bound:g}: {rule.meaning}.")
            elif not bad and rule.name in self._on:
                said.append(f"alarm {rule.name} is over: {rule.metric} is {mean:.3g}.")
            self._on = self._on | {rule.name} if bad else self._on - {rule.name}
        return {f"alarm/{name}": 1.0 for name in sorted(self._on)}, said
