"""Metrics of a step."""

from dataclasses import replace

import pytest

from reward.attempt import Repeat
from reward.settings import RewardSettings, RewardWeights
from rollout.groups.collect import Collector
from rollout.records import Group
from rollout.settings import RolloutSettings
from sandbox.records import Run
from tests.scripted_parts import SINGLE_CALL, ScriptedRenderer, ScriptedRunner, ScriptedSampler, problem, run
from trainer.metrics.step import group_metrics
from workflow.outcome import Outcome


async def groups(truncated: int, reward: RewardSettings | None = None) -> list[Group]:
    """One group of two siblings that share their two runs of two calls each; of one run's calls so many were cut off."""

    def rule(workflow, one, seed) -> Run:
        made = run(Outcome.PASSED, passed=4, calls=2, seed=seed)
        first, *rest = made.execution.trace
        trace = (replace(first, truncated=truncated), *rest)
        return replace(made, execution=replace(made.execution, trace=trace))

    settings = RolloutSettings(group_size=2, runs_per_workflow=2)
    collector = Collector(ScriptedSampler([SINGLE_CALL]), ScriptedRunner(rule), ScriptedRenderer(), settings, reward or RewardSettings(), 0)
    return await collector.collect([problem()], tag="step")


def policy_tokens(repeat: Repeat) -> float:
    return float(repeat.attempt.tokens)


async def test_terms_operators_and_verifiers_are_metrics_whatever_there_are():
    weights = RewardWeights.model_validate({f"{__name__}:policy_tokens": -0.01})
    (group,) = await groups(0, RewardSettings(weights=weights))
    metrics = group_metrics([group])
    tokens = len(group.episodes[0].response_ids)
    assert tokens > 0 and metrics["reward/policy_tokens"] == tokens
    assert metrics["reward/mean"] == pytest.approx(1.0 - 0.025 - 0.01 * tokens)
    assert (metrics["operator/generate"], metrics["operator/review"], metrics["verifier/function"]) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("truncated", [0, 1])
async def test_the_share_of_cut_off_worker_replies_is_a_metric(truncated: int):
    assert group_metrics(await groups(truncated))["worker/truncated"] == pytest.approx(truncated / 2)
