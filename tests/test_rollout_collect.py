"""Collecting: groups of episodes from problems."""

import asyncio

import pytest

from reward.settings import RewardSettings
from rollout.groups.collect import Collector
from rollout.settings import RolloutSettings
from tests.scripted_parts import SINGLE_CALL, TEST_LOOP, ScriptedRenderer, ScriptedRunner, ScriptedSampler, problem, run
from workflow.outcome import Outcome


def collector(texts, rule, **settings) -> Collector:
    rollout = RolloutSettings(**{"group_size": 4, "runs_per_workflow": 2, **settings})
    return Collector(ScriptedSampler(texts), ScriptedRunner(rule), ScriptedRenderer(), rollout, RewardSettings(), seed=3)


def passing(workflow, problem, seed):
    return run(Outcome.PASSED, passed=4, calls=1)


async def test_every_problem_gets_one_group_of_group_size_episodes():
    groups = await collector([SINGLE_CALL], passing).collect([problem(0), problem(1)], tag="t")
    assert [len(group.episodes) for group in groups] == [4, 4]
    assert [group.problem.id for group in groups] == ["scripted/0", "scripted/1"]


async def test_episode_ids_are_unique_within_a_step_and_across_steps():
    maker = collector([SINGLE_CALL], passing)
    groups = [await maker.collect([problem(0), problem(1)], tag=tag) for tag in ("train-0", "train-1")]
    ids = [episode.id for step in groups for group in step for episode in group.episodes]
    assert len(set(ids)) == len(ids) == 16


async def test_siblings_with_the_same_ast_share_their_runs():
    maker = collector([SINGLE_CALL, TEST_LOOP], passing)
    await maker.collect([problem()], tag="t")
    assert len(maker.runner.runs) == 2 * 2  # two distinct workflows, two runs each, for four episodes


async def test_siblings_meet_the_same_worker_seeds():
    maker = collector([SINGLE_CALL, TEST_LOOP], passing)
    await maker.collect([problem()], tag="t")
    seeds_by_workflow: dict[str, set[int]] = {}
    for fingerprint, _, seed in maker.runner.runs:
        seeds_by_workflow.setdefault(fingerprint, set()).add(seed)
    first, second = seeds_by_workflow.values()
    assert first == second and len(first) == 2


async def test_without_share_runs_every_sibling_runs_with_seeds_of_its_own():
    maker = collector([SINGLE_CALL], passing, share_runs=False)
    await maker.collect([problem()], tag="t")
    assert len({seed for _, _, seed in maker.runner.runs}) == 4 * 2


async def test_the_same_step_again_meets_the_same_seeds_and_another_step_others():
    async def seeds(tag: str) -> list[int]:
        maker = collector([SINGLE_CALL], passing)
        await maker.collect([problem()], tag=tag)
        return [seed for _, _, seed in maker.runner.runs]

    assert await seeds("train-0") == await seeds("train-0")
    assert set(await seeds("train-0")).isdisjoint(await seeds("train-1"))


async def test_a_refused_completion_earns_the_floor_and_runs_nothing():
    maker = collector(["I have no idea.", SINGLE_CALL], passing)
    (group,) = await maker.collect([problem()], tag="t")
    refused, ran = group.episodes[0], group.episodes[1]
    assert refused.outcome is Outcome.NO_WORKFLOW and refused.score is not None and refused.score.total == RewardSettings().floor
    assert ran.outcome is Outcome.PASSED and ran.score is not None and ran.score.total > 0


async def test_an_infrastructure_failure_is_masked_not_scored():
    def broken(workflow, problem, seed):
        return run(Outcome.INFRA_ERROR) if workflow.loops else run(Outcome.PASSED, passed=4)

    maker = collector([SINGLE_CALL, TEST_LOOP], broken)
    (group,) = await maker.collect([problem()], tag="t")
    assert [episode.score is None for episode in group.episodes] == [False, True, False, True]
    assert group.episodes[1].outcome is Outcome.INFRA_ERROR


async def test_evaluation_overrides_reach_the_sampler():
    maker = collector([SINGLE_CALL], passing)
    await maker.collect([problem()], tag="t", n=1, temperature=0.0, runs=3)
    assert maker.sampler.asked[0][:2] == (1, 0.0)
    assert len(maker.runner.runs) == 3


async def test_a_failing_sampler_ends_the_step_with_its_error_and_leaves_no_task():
    class Broken(ScriptedSampler):
        async def sample(self, prompt_ids, n, *, temperature, seed, sticky=None):
            raise RuntimeError("engine gone")

    maker = collector([SINGLE_CALL], passing)
    maker.sampler = Broken([])
    with pytest.raises(RuntimeError, match="engine gone"):
        await maker.collect([problem()], tag="t")
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
