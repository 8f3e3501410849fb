"""Dispatch, publishing and repair, with scripted engines."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from rollout.fleet import TRIES, Fleet
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings


class ScriptedEngine:
    """Answers after ``delay_s`` with its number as text; fails as its script says."""

    def __init__(self, number: int, *, dies: bool = False, hangs: bool = False, refuses: bool = False, stuck: bool = False) -> None:
        self.number, self.dies, self.hangs, self.refuses, self.stuck = number, dies, hangs, refuses, stuck
        self.version, self.requests, self.killed, self.closed = 0, 0, False, False
        self.weights: Any = None
        self.starts = True
        self.delay_s = 0.0

    async def ready(self) -> list[int]:
        if not self.starts:
            raise ActorDiedError
        return [self.number]

    async def sample(self, prompt_ids: list[int], n: int, temperature: float, seed: int) -> list[Completion]:
        self.requests += 1
        if self.dies or self.killed:
            raise ActorDiedError
        if self.refuses:
            raise RayTaskError("sample", "traceback", ValueError("The prompt is too long."))
        await asyncio.sleep(60 if self.hangs else self.delay_s)
        return [Completion(str(self.number), tuple(prompt_ids), (0.0,) * len(prompt_ids), self.version, "stop")] * n

    async def publish(self, version: int, weights: Any) -> int:
        if self.dies or self.killed:
            raise ActorDiedError
        await asyncio.sleep(0)
        if not self.stuck:
            self.version, self.weights = version, weights
        return self.version

    async def close(self) -> None:
        self.closed = True

    def kill(self) -> None:
        self.killed = True


class Made:
    """Hands out scripted engines in turn; healthy ones after the script's end."""

    def __init__(self, *scripted: ScriptedEngine) -> None:
        self.waiting = list(scripted)
        self.engines: list[ScriptedEngine] = []

    def __call__(self) -> ScriptedEngine:
        self.engines.append(self.waiting.pop(0) if self.waiting else ScriptedEngine(len(self.engines)))
        return self.engines[-1]


async def fleet_of(made: Made, engines: int = 1, timeout_s: float = 5.0) -> Fleet:
    settings = RolloutSettings(engines=engines, request_timeout_s=timeout_s)
    fleet = Fleet(ModelSettings(), settings, Path("policy"), device="cpu", engine=made)
    await fleet.start()
    return fleet


async def test_requests_spread_evenly_over_the_engines() -> None:
    made = Made()
    fleet = await fleet_of(made, engines=3)
    for engine in made.engines:
        engine.delay_s = 0.02
    await asyncio.gather(*(fleet.sample((1, 2), 4, temperature=1.0, seed=seed) for seed in range(9)))
    assert [engine.requests for engine in made.engines] == [3, 3, 3]


async def test_a_large_group_counts_for_more_than_a_small_one() -> None:
    made = Made()
    fleet = await fleet_of(made, engines=2)
    for engine in made.engines:
        engine.delay_s = 0.02
    await asyncio.gather(*(fleet.sample((1,), n, temperature=1.0, seed=0) for n in (12, 4, 4, 4)))
    assert sorted(engine.requests for engine in made.engines) == [1, 3]


async def test_publishing_reaches_every_engine_and_sets_the_version() -> None:
    made = Made()
    fleet = await fleet_of(made, engines=3)
    assert fleet.version == 0
    await fleet.publish(7, "weights")
    assert [(engine.version, engine.weights) for engine in made.engines] == [(7, "weights")] * 3
    assert fleet.version == 7


async def test_a_dead_engine_is_replaced_gets_the_current_weights_and_the_request_again() -> None:
    made = Made()
    fleet = await fleet_of(made)
    await fleet.publish(3, "weights")
    made.engines[0].dies = True
    completions = await fleet.sample((1, 2), 2, temperature=1.0, seed=0)
    assert [(one.text, one.weights_version) for one in completions] == [("1", 3)] * 2
    assert made.engines[0].killed


async def test_weights_published_as_version_0_also_reach_a_new_engine() -> None:
    made = Made()
    fleet = await fleet_of(made)
    await fleet.publish(0, "trained")
    made.engines[0].dies = True
    await fleet.sample((1,), 1, temperature=1.0, seed=0)
    assert made.engines[1].weights == "trained"


async def test_an_engine_that_does_not_answer_in_time_is_replaced() -> None:
    made = Made(ScriptedEngine(0, hangs=True))
    fleet = await fleet_of(made, timeout_s=0.05)
    assert (await fleet.sample((1,), 1, temperature=1.0, seed=0))[0].text == "1"
    assert made.engines[0].killed


async def test_many_failed_requests_replace_an_engine_once() -> None:
    made = Made(ScriptedEngine(0, dies=True))
    fleet = await fleet_of(made)
    groups = await asyncio.gather(*(fleet.sample((1,), 1, temperature=1.0, seed=seed) for seed in range(16)))
    assert {group[0].text for group in groups} == {"1"}
    assert len(made.engines) == 2


async def test_a_request_that_fails_again_and_again_ends_in_one_sentence() -> None:
    made = Made(*(ScriptedEngine(number, dies=True) for number in range(TRIES + 1)))
    fleet = await fleet_of(made)
    with pytest.raises(RuntimeError, match=f"failed {TRIES} times at the same request, last with: ActorDiedError"):
        await fleet.sample((1,), 1, temperature=1.0, seed=0)


async def test_a_refused_request_is_not_sent_again_and_costs_no_engine() -> None:
    made = Made(ScriptedEngine(0, refuses=True))
    fleet = await fleet_of(made)
    with pytest.raises(ValueError, match=r"^The prompt is too long\.$"):
        await fleet.sample((1,), 1, temperature=1.0, seed=0)
    assert len(made.engines) == 1 and made.engines[0].requests == 1 and not made.engines[0].killed


async def test_an_engine_that_died_before_publishing_is_replaced_by_one_with_the_new_weights() -> None:
    made = Made(ScriptedEngine(0, dies=True))
    fleet = await fleet_of(made, engines=2)
    await fleet.publish(4, "new")
    assert (await fleet.sample((1,), 1, temperature=1.0, seed=0))[0].weights_version == 4
    assert [engine.version for engine in made.engines[1:]] == [4, 4]


async def test_weights_published_during_a_repair_reach_the_new_engine() -> None:
    made = Made()
    fleet = await fleet_of(made)
    await fleet.publish(1, "old")
    made.engines[0].dies = True
    sampled, _ = await asyncio.gather(fleet.sample((1,), 1, temperature=1.0, seed=0), fleet.publish(2, "new"))
    assert sampled[0].weights_version in (1, 2)
    assert (made.engines[-1].version, made.engines[-1].weights) == (2, "new")


async def test_an_engine_that_keeps_its_old_version_is_an_error() -> None:
    fleet = await fleet_of(Made(ScriptedEngine(0, stuck=True)))
    with pytest.raises(RuntimeError, match="holds weights version 0 after version 1 was published"):
        await fleet.publish(1, "weights")


async def test_an_engine_that_does_not_start_ends_in_one_sentence_and_is_killed() -> None:
    broken = ScriptedEngine(0)
    broken.starts = False
    with pytest.raises(RuntimeError, match="A rollout engine for policy does not start: ActorDiedError"):
        await fleet_of(Made(broken))
    assert broken.killed


async def test_closing_ends_every_engine_also_one_that_never_came_up() -> None:
    made = Made()
    fleet = await fleet_of(made, engines=2)
    await fleet.close()
    assert [(engine.closed, engine.killed) for engine in made.engines] == [(True, True)] * 2
    await fleet.close()
