"""Dispatch, publishing and repair, with scripted engines."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from rollout.fleet.fleet import STICKY_LEAD, TRIES, Fleet
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings
from rollout.weights.buckets import Bucket, TensorSum, digest
from rollout.weights.link import Address
from rollout.weights.source import WeightsGoneError
from sandbox import supervise
from workflow.outcome import RunFailedError


class ScriptedWeights:
    """Weights of one tensor a bucket, whose checksums tell them from others; counts how often they are sent."""

    def __init__(self, number: int, *, buckets: int = 3, gone_after: int = 10**9, delay_s: float = 0.0) -> None:
        self.all = [Bucket((TensorSum(f"t{i}", "float32", (2,), number),), None) for i in range(buckets)]
        self.sent, self.gone_after, self.delay_s = 0, gone_after, delay_s
        self.out = 0
        """Buckets handed out in the present sending."""

    async def buckets(self, max_bytes: int) -> AsyncIterator[Bucket]:
        if self.sent == self.gone_after:
            raise WeightsGoneError("The learner has moved on.")
        self.sent += 1
        self.out = 0
        for bucket in self.all:
            await asyncio.sleep(self.delay_s)
            self.out += 1
            yield bucket

    @property
    def digest(self) -> int:
        return digest(tensor for bucket in self.all for tensor in bucket.tensors)


OLD, NEW = ScriptedWeights(1), ScriptedWeights(2)


class ScriptedEngine:
    """Answers after ``delay_s`` with its number as text; fails as its script says."""

    def __init__(
        self, number: int, *, dies: bool = False, hangs: bool = False, refuses: bool = False, deaf: bool = False, dies_at_bucket: int = -1
    ) -> None:
        self.number, self.dies, self.hangs, self.refuses, self.deaf = number, dies, hangs, refuses, deaf
        self.dies_at_bucket = dies_at_bucket
        self.version, self.requests, self.killed, self.closed = 0, 0, False, False
        self.loaded: list[Bucket] = []
        self.updating = False
        self.starts = True
        self.delay_s = 0.0
        self.cached_tokens = 0
        self.on_load = lambda: None
        self.room = asyncio.Event()
        self.room.set()

    async def placed(self) -> None:
        await self.room.wait()

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
        assert not self.updating, "sampled from mixed weights"
        ids, logprobs = tuple(prompt_ids), (0.0,) * len(prompt_ids)
        return [Completion(str(self.number), ids, logprobs, self.version, "stop", cached_prompt_tokens=self.cached_tokens)] * n

    async def connect(self, address: Address, first: int) -> None:
        self._die()

    async def start_update(self, version: int) -> None:
        self._die()
        self.updating, self.loaded = True, []

    async def load_bucket(self, bucket: Bucket) -> None:
        self._die()
        if len(self.loaded) == self.dies_at_bucket:
            raise ActorDiedError
        self.on_load()
        await asyncio.sleep(0)
        if not self.deaf:
            self.loaded.append(bucket)

    async def finish_update(self, version: int) -> int:
        self._die()
        self.updating, self.version = False, version
        return self.digest

    def _die(self) -> None:
        if self.dies or self.killed:
            raise ActorDiedError

    @property
    def digest(self) -> int:
        return digest(tensor for bucket in self.loaded for tensor in bucket.tensors)

    async def close(self) -> None:
        self.closed = True

    def kill(self) -> None:
        self.killed = True


class Made:
    """Hands out scripted engines in turn; healthy ones after the script's end."""

    def __init__(self, *scripted: ScriptedEngine) -> None:
        self.waiting = list(scripted)
        self.engines: list[ScriptedEngine] = []

    def __call__(self, index: int = 0) -> ScriptedEngine:
        self.engines.append(self.waiting.pop(0) if self.waiting else ScriptedEngine(len(self.engines)))
        return self.engines[-1]


async def fleet_of(
    made: Made, engines: int = 1, timeout_s: float = 5.0, weights_kept: Literal["copy", "resend"] = "copy", said: list[str] | None = None
) -> Fleet:
    settings = RolloutSettings(engines=engines, request_timeout_s=timeout_s, weights_kept=weights_kept)
    say = said.append if said is not None else print
    fleet = Fleet(ModelSettings(), settings, Path("policy"), device="cpu", engine=made, say=say)
    await fleet.start()
    return fleet


async def mended(fleet: Fleet) -> None:
    """Waits until no engine is under repair."""
    async with asyncio.timeout(5):
        while not all(slot.up or slot.lost for slot in fleet._slots):
            await asyncio.sleep(0.001)


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


async def test_publishing_reaches_every_engine_and_says_how_it_went() -> None:
    made = Made()
    fleet = await fleet_of(made, engines=3)
    assert fleet.version == 0
    published = await fleet.publish(7, NEW)
    assert [(engine.version, engine.digest) for engine in made.engines] == [(7, NEW.digest)] * 3
    assert fleet.version == 7
    assert (published.version, published.bytes, published.buckets, published.replaced) == (7, 3 * 8, 3, ())
    assert len(published.engine_s) == 3 and max(published.engine_s) <= published.seconds


async def test_at_most_two_buckets_are_on_their_way() -> None:
    made = Made()
    fleet = await fleet_of(made, engines=2)
    weights, ahead = ScriptedWeights(3, buckets=20), []
    for engine in made.engines:
        engine.on_load = lambda engine=engine: ahead.append(weights.out - len(engine.loaded))
    await fleet.publish(1, weights)
    assert len(ahead) == 40 and max(ahead) == 2


async def test_a_dead_engine_is_replaced_gets_the_current_weights_and_the_request_again() -> None:
    made = Made()
    fleet = await fleet_of(made)
    await fleet.publish(3, NEW)
    made.engines[0].dies = True
    completions = await fleet.sample((1, 2), 2, temperature=1.0, seed=0)
    assert [(one.text, one.weights_version) for one in completions] == [("1", 3)] * 2
    assert made.engines[0].killed and made.engines[1].digest == NEW.digest


async def test_weights_published_as_version_0_also_reach_a_new_engine() -> None:
    made = Made()
    fleet = await fleet_of(made)
    await fleet.publish(0, NEW)
    made.engines[0].dies = True
    await fleet.sample((1,), 1, temperature=1.0, seed=0)
    assert made.engines[1].digest == NEW.digest


async def test_kept_buckets_are_sent_again_without_asking_their_source() -> None:
    weights, made = ScriptedWeights(4, gone_after=1), Made()
    fleet = await fleet_of(made)
    await fleet.publish(1, weights)
    made.engines[0].dies = True
    await fleet.sample((1,), 1, temperature=1.0, seed=0)
    assert made.engines[1].digest == weights.digest and weights.sent == 1


async def test_where_nothing_is_kept_a_new_engine_gets_the_weights_from_their_source() -> None:
    weights, made = ScriptedWeights(4), Made()
    fleet = await fleet_of(made, weights_kept="resend")
    await fleet.publish(1, weights)
    made.engines[0].dies = True
    assert (await fleet.sample((1,), 1, temperature=1.0, seed=0))[0].weights_version == 1
    assert made.engines[1].digest == weights.digest and weights.sent == 2


async def test_where_the_source_has_moved_on_a_new_engine_waits_for_the_next_update() -> None:
    made = Made()
    fleet = await fleet_of(made, weights_kept="resend")
    await fleet.publish(1, ScriptedWeights(4, gone_after=1))
    made.engines[0].dies = True
    request = asyncio.create_task(fleet.sample((1,), 1, temperature=1.0, seed=0))
    await asyncio.sleep(0.05)
    assert not request.done()
    await fleet.publish(2, NEW)
    assert (await request)[0].weights_version == 2 and made.engines[1].digest == NEW.digest


async def test_an_engine_that_dies_in_the_middle_of_an_update_is_replaced_and_the_others_go_on() -> None:
    made = Made(ScriptedEngine(0, dies_at_bucket=1))
    fleet = await fleet_of(made, engines=2)
    published = await fleet.publish(5, NEW)
    await mended(fleet)
    assert made.engines[0].killed and [engine.digest for engine in made.engines[1:]] == [NEW.digest] * 2
    assert len(published.engine_s) == 1 and len(published.replaced) == 1 and "ActorDiedError" in published.replaced[0]


async def test_an_engine_that_holds_something_else_than_was_sent_is_replaced() -> None:
    made = Made(ScriptedEngine(0, deaf=True))
    fleet = await fleet_of(made)
    published = await fleet.publish(1, NEW)
    await mended(fleet)
    assert made.engines[0].killed and made.engines[1].digest == NEW.digest
    assert "it holds weights of digest" in published.replaced[0]


async def test_a_new_engine_that_does_not_take_the_weights_gets_a_successor() -> None:
    made = Made(ScriptedEngine(0, deaf=True), ScriptedEngine(1, deaf=True))
    fleet = await fleet_of(made)
    await fleet.publish(1, NEW)
    assert (await fleet.sample((1,), 1, temperature=1.0, seed=0))[0].text == "2"
    assert made.engines[1].killed and made.engines[2].digest == NEW.digest


async def test_an_engine_is_given_up_after_so_many_starts_and_the_others_go_on() -> None:
    said: list[str] = []
    broken = [ScriptedEngine(number) for number in range(2, 2 + supervise.STARTS)]
    for engine in broken:
        engine.starts = False
    made = Made(ScriptedEngine(0), ScriptedEngine(1), *broken)
    fleet = await fleet_of(made, engines=2, said=said)
    made.engines[0].dies = True
    answers = [await fleet.sample((1,), 1, temperature=1.0, seed=seed, sticky=0) for seed in range(2)]
    await mended(fleet)
    answers += [await fleet.sample((1,), 1, temperature=1.0, seed=seed, sticky=0) for seed in range(2)]
    assert {answer[0].text for answer in answers} == {"1"} and all(engine.killed for engine in broken)
    assert "Rollout engine 1 of 2 IS GIVEN UP: 3 new ones in a row failed, the last with: ActorDiedError" in said[-1]
    assert (await fleet.publish(3, NEW)).engine_s and made.engines[1].version == 3


async def test_without_any_engine_left_a_request_ends_in_one_sentence() -> None:
    broken = [ScriptedEngine(number) for number in range(1, 1 + supervise.STARTS)]
    for engine in broken:
        engine.starts = False
    made = Made(ScriptedEngine(0, dies=True), *broken)
    fleet = await fleet_of(made)
    with pytest.raises(RunFailedError, match=r"^No rollout engine is left: ActorDiedError"):
        await fleet.sample((1,), 1, temperature=1.0, seed=0)


async def test_an_engine_without_a_node_is_waited_for_with_a_message_while_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "TELL_EVERY_S", 0.02)
    said: list[str] = []
    homeless = ScriptedEngine(2)
    homeless.room.clear()
    made = Made(ScriptedEngine(0), ScriptedEngine(1), homeless)
    fleet = await fleet_of(made, engines=2, said=said)
    await fleet.publish(1, OLD)
    made.engines[0].dies = True
    assert (await fleet.sample((1,), 1, temperature=1.0, seed=0, sticky=0))[0].text == "1"
    async with asyncio.timeout(5):
        while "Rollout engine 1 of 2 waits for a node with room for it." not in said:
            await asyncio.sleep(0.01)
    await fleet.publish(2, NEW)
    homeless.room.set()
    await mended(fleet)
    assert (await fleet.sample((1,), 1, temperature=1.0, seed=0, sticky=0))[0].text == "2"
    assert (homeless.version, homeless.digest) == (2, NEW.digest)


async def test_a_repair_does_not_hold_up_an_update_of_the_others() -> None:
    homeless = ScriptedEngine(2)
    homeless.room.clear()
    made = Made(ScriptedEngine(0, dies=True), ScriptedEngine(1), homeless)
    fleet = await fleet_of(made, engines=2)
    async with asyncio.timeout(2):
        published = await fleet.publish(1, NEW)
    assert len(published.engine_s) == 1 and len(published.replaced) == 1
    await fleet.close()
    assert homeless.killed


async def test_after_an_update_whose_source_failed_a_new_engine_waits_for_the_next_one() -> None:
    made = Made()
    fleet = await fleet_of(made)
    with pytest.raises(WeightsGoneError):
        await fleet.publish(1, ScriptedWeights(4, gone_after=0))
    made.engines[0].dies = True
    request = asyncio.create_task(fleet.sample((1,), 1, temperature=1.0, seed=0))
    await asyncio.sleep(0.05)
    assert not request.done()
    await fleet.publish(2, NEW)
    assert (await request)[0].weights_version == 2


async def test_where_what_was_kept_died_with_its_holder_the_source_is_asked() -> None:
    weights = ScriptedWeights(4)

    class Owner(ScriptedEngine):
        async def load_bucket(self, bucket: Bucket) -> None:
            raise RayTaskError("load_bucket", "OwnerDiedError: the holder of the object died", RuntimeError("OwnerDiedError"))

    made = Made(ScriptedEngine(0), Owner(1))
    fleet = await fleet_of(made)
    await fleet.publish(1, weights)
    made.engines[0].dies = True
    assert (await fleet.sample((1,), 1, temperature=1.0, seed=0))[0].text == "2"
    assert weights.sent == 2 and made.engines[2].digest == weights.digest


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


async def test_two_engines_that_lack_memory_at_one_request_end_the_run_with_what_to_change():
    class Starved(ScriptedEngine):
        async def sample(self, prompt_ids: list[int], n: int, temperature: float, seed: int) -> list[Completion]:
            self.requests += 1
            told = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 5.80 GiB"
            raise RayTaskError("sample", f"Traceback (most recent call last):\n{told}", RuntimeError(told))

    made = Made(Starved(0), Starved(1), Starved(2))
    fleet = await fleet_of(made)
    with pytest.raises(RunFailedError, match=r"ran out of memory at the same request.*5\.80 GiB.*lower rollout\.engine_args"):
        await fleet.sample([1], 1, temperature=1.0, seed=0)
    assert sum(engine.requests for engine in made.engines) == 2
    await fleet.close()


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
    await fleet.publish(4, NEW)
    await mended(fleet)
    assert (await fleet.sample((1,), 1, temperature=1.0, seed=0))[0].weights_version == 4
    assert [engine.version for engine in made.engines[1:]] == [4, 4]


async def test_weights_published_during_a_repair_reach_the_new_engine() -> None:
    made = Made()
    fleet = await fleet_of(made)
    await fleet.publish(1, OLD)
    made.engines[0].dies = True
    sampled, _ = await asyncio.gather(fleet.sample((1,), 1, temperature=1.0, seed=0), fleet.publish(2, NEW))
    await mended(fleet)
    assert sampled[0].weights_version in (1, 2)
    assert (made.engines[-1].version, made.engines[-1].digest) == (2, NEW.digest)


async def test_requests_with_the_same_number_go_to_the_same_engine_while_it_keeps_up() -> None:
    made = Made()
    fleet = await fleet_of(made, engines=3)
    for engine in made.engines:
        engine.delay_s = 0.02
    await asyncio.gather(*(fleet.sample((1,), 1, temperature=1.0, seed=0, sticky=7) for _ in range(STICKY_LEAD)))
    assert [engine.requests for engine in made.engines] == [0, STICKY_LEAD, 0]
    await asyncio.gather(*(fleet.sample((1,), STICKY_LEAD, temperature=1.0, seed=0, sticky=7) for _ in range(4)))
    assert min(engine.requests for engine in made.engines) > 0, "all waited for an engine that was far behind"


async def test_health_counts_what_each_engine_does_and_did() -> None:
    made = Made()
    fleet = await fleet_of(made, engines=2)
    made.engines[0].delay_s = 0.05
    made.engines[0].cached_tokens = 1
    asked = asyncio.create_task(fleet.sample((1, 2), 3, temperature=1.0, seed=0, sticky=0))
    await asyncio.sleep(0.02)
    busy, idle = fleet.health()
    assert (busy.in_flight, idle.in_flight, idle.oldest_s) == (3, 0, 0.0) and busy.oldest_s > 0.01
    await asked
    busy, idle = fleet.health()
    assert (busy.tokens, busy.in_flight, busy.cached_share) == (6, 0, 0.5) and 0 < busy.tokens_per_s < 6 / 0.05
    assert (idle.tokens, idle.tokens_per_s, idle.busy_s) == (0, 0.0, 0.0)
    await fleet.publish(2, NEW)
    made.engines[0].dies = True
    await fleet.sample((1,), 1, temperature=1.0, seed=0, sticky=0)
    await mended(fleet)
    assert [(one.version, one.replaced) for one in fleet.health()] == [(2, 1), (2, 0)]
    assert fleet.health()[0].cached_share == 0.0


async def test_an_engine_that_does_not_start_ends_in_one_sentence_and_is_killed() -> None:
    broken = ScriptedEngine(0)
    broken.starts = False
    with pytest.raises(RunFailedError, match="Rollout engine 1 of 1 does not start: ActorDiedError"):
        await fleet_of(Made(broken))
    assert broken.killed


async def test_closing_ends_every_engine_also_one_that_never_came_up() -> None:
    made = Made()
    fleet = await fleet_of(made, engines=2)
    await fleet.close()
    assert [(engine.closed, engine.killed) for engine in made.engines] == [(True, True)] * 2
    await fleet.close()
