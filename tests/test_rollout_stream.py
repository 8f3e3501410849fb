"""The stream of groups: staleness, back-pressure, late groups, nothing lost."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward.score import Score
from rollout.groups.flat import MOST_SKIPPED, FlatHistory, is_flat
from rollout.groups.stream import GroupStream, Ready, StepGroups, StreamLimits, StreamState
from rollout.records import Completion, Episode, Group, Round
from tests.scripted_parts import problem
from tests.virtual_time import VirtualTimePolicy


@pytest.fixture(scope="module")
def event_loop_policy() -> VirtualTimePolicy:
    return VirtualTimePolicy()


def group(position: int, version: int, *, flat: bool = False, better: float = 1.0) -> Group:
    def episode(total: float) -> Episode:
        completion = Completion("", (1,), (-0.1,), version, "stop")
        return Episode(str(position), (Round(completion, None, None, ()),), 0, Score(total, {"performance": 1.0}, False))

    return Group(problem(position), (1,), (episode(0.0), episode(0.0 if flat else better)))


class Source:
    """Collects groups that end when they are told to, or after a delay by rule; knows what is under way."""

    def __init__(self, delay_s=lambda position: 0.0, flat=lambda position: False) -> None:
        self.version = 0
        self.delay_s = delay_s
        self.flat = flat
        self.started: list[tuple[int, int]] = []
        self.under_way: set[int] = set()
        self.most = 0

    async def collect(self, position: int) -> Group:
        version = self.version
        self.started.append((position, version))
        self.under_way.add(position)
        self.most = max(self.most, len(self.under_way))
        try:
            await asyncio.sleep(self.delay_s(position))
        finally:
            self.under_way.discard(position)
        return group(position, version, flat=self.flat(position))


def numbers(groups: Sequence[Group]) -> list[int]:
    return [int(one.episodes[0].id) for one in groups]


def positions(taken: StepGroups) -> list[int]:
    return numbers(taken.groups)


async def train(stream: GroupStream, source: Source, steps: int, *, first: int = 0, update_s: float = 0.0) -> list[StepGroups]:
    """A learner that takes groups and publishes, ``steps`` times."""
    steps_taken = []
    for version in range(first, first + steps):
        source.version = version
        stream.start(version)
        steps_taken.append(await stream.take())
        await asyncio.sleep(update_s)
    return steps_taken


async def test_without_staleness_every_group_is_collected_from_the_weights_that_it_changes():
    source = Source(delay_s=lambda position: 0.001 * (position % 3))
    async with GroupStream(source.collect, StreamLimits(4, 0, 0.5, 0), last_step=5) as stream:
        steps = await train(stream, source, 5)
    assert [positions(taken) for taken in steps] == [list(range(4 * k, 4 * k + 4)) for k in range(5)]
    assert all(taken.staleness == (0, 0, 0, 0) for taken in steps)
    assert source.started == [(position, position // 4) for position in range(20)]


async def test_with_staleness_the_next_groups_are_collected_while_the_learner_updates():
    source = Source(delay_s=lambda position: 0.01)
    async with GroupStream(source.collect, StreamLimits(4, 1, 0.0, 0), last_step=4) as stream:
        steps = await train(stream, source, 4, update_s=0.03)
    assert [taken.staleness for taken in steps[1:]] == [(1, 1, 1, 1)] * 3
    assert all(taken.wait_s < 0.01 for taken in steps[1:])  # they were ready


async def test_a_slow_learner_meets_no_more_than_the_window():
    source = Source()
    async with GroupStream(source.collect, StreamLimits(4, 2, 0.0, 0), last_step=50) as stream:
        stream.start(0)
        for _ in range(20):
            await asyncio.sleep(0.001)
            stream.start(0)
        assert len(source.started) == 12


async def test_a_slow_group_is_carried_to_the_next_step_and_is_not_lost():
    source = Source(delay_s=lambda position: 0.1 if position == 1 else 0.001)
    async with GroupStream(source.collect, StreamLimits(4, 2, 0.25, 0), last_step=4) as stream:
        steps = await train(stream, source, 4)
    taken = [positions(one) for one in steps]
    assert 1 not in taken[0] and steps[0].late == 1 and steps[0].wait_s < 0.05
    assert sorted(position for one in taken for position in one) == list(range(16))
    assert max(age for one in steps for age in one.staleness) <= 2


async def test_groups_that_teach_nothing_leave_the_update_for_others_that_do():
    source = Source(flat=lambda position: position % 2 == 0)
    async with GroupStream(source.collect, StreamLimits(4, 0, 0.0, 4), last_step=1) as stream:
        (taken,) = await train(stream, source, 1)
    assert positions(taken) == [1, 3, 5, 7] and taken.flat == 0 and taken.staleness == (0, 0, 0, 0)
    assert numbers(taken.replaced) == [0, 2, 4, 6]
    assert sorted(numbers(taken.collected)) == list(range(8))  # all of them were paid for


async def test_where_the_bound_on_replacements_is_spent_the_step_keeps_its_size():
    source = Source(flat=lambda position: position in (0, 1, 2, 4))
    async with GroupStream(source.collect, StreamLimits(4, 0, 0.0, 3), last_step=2) as stream:
        first, second = await train(stream, source, 2)
    assert positions(first) == [0, 3, 5, 6] and first.flat == 1  # three replacements, one of them flat again
    assert numbers(first.replaced) == [1, 2, 4]
    assert positions(second) == [7, 8, 9, 10] and second.staleness == (0, 0, 0, 0)


async def test_without_refill_groups_that_teach_nothing_stay_in_the_step():
    source = Source(flat=lambda position: position < 3)
    async with GroupStream(source.collect, StreamLimits(4, 0, 0.0, 0), last_step=1) as stream:
        (taken,) = await train(stream, source, 1)
    assert positions(taken) == [0, 1, 2, 3] and taken.flat == 3 and not taken.replaced


@pytest.mark.parametrize(("apart", "flat"), [(0.0, True), (1e-7, True), (9e-5, True), (2e-4, False), (0.0067, False), (1.0, False)])
def test_a_group_is_flat_where_its_rewards_differ_by_no_more_than_noise(apart, flat):
    assert is_flat(group(0, 0, better=apart)) is flat
    assert is_flat(group(0, 0, better=-apart)) is flat


def test_costs_and_noise_make_no_group_teach_where_flatness_is_by_performance_or_has_a_tolerance():
    by_latency = group(0, 0, better=0.01)
    assert not is_flat(by_latency)
    assert is_flat(by_latency, by="performance") and is_flat(by_latency, tolerance=0.02)


PROBLEMS = 5


def history(skip_flat: float, state: StreamState | None = None) -> FlatHistory:
    return FlatHistory(lambda position: problem(position % PROBLEMS).id, skip_flat, 7, state.flat_in_a_row if state else None)


def skipping(skip_flat: float, state: StreamState | None = None) -> tuple[Source, GroupStream]:
    """A stream over five problems of which two are always flat."""
    source = Source(delay_s=lambda position: 0.001 * (1 + position % 4), flat=lambda position: position % PROBLEMS < 2)

    async def collect(position: int) -> Group:
        return replace(await source.collect(position), problem=problem(position % PROBLEMS))

    known = history(skip_flat, state)
    return source, GroupStream(collect, StreamLimits(5, 1, 0.0, 0), last_step=40, state=state, history=known)


async def test_problems_whose_groups_were_flat_are_skipped_more_and_more_and_never_given_up():
    source, stream = skipping(0.5)
    async with stream:
        steps = await train(stream, source, 40)
    asked = Counter(position % PROBLEMS for taken in steps for position in positions(taken))
    assert asked.total() == 40 * 5 and min(asked[2], asked[3], asked[4]) > 3 * max(asked[0], asked[1]) and asked[0] and asked[1]
    skipped = [position for position in range(max(map(max, map(positions, steps))) + 1) if position not in dict(source.started)]
    assert sum(taken.skipped for taken in steps) == len(skipped) and {position % PROBLEMS for position in skipped} == {0, 1}


async def test_a_resumed_stream_skips_what_an_uninterrupted_one_skips():
    source, stream = skipping(0.5)
    async with stream:
        whole = await train(stream, source, 20)
    source, stream = skipping(0.5)
    async with stream:
        before = await train(stream, source, 9)
        state = stream.state()
    source, stream = skipping(0.5, state)
    async with stream:
        after = await train(stream, source, 11, first=9)
    assert [positions(taken) for taken in before + after] == [positions(taken) for taken in whole]
    assert [taken.skipped for taken in before + after] == [taken.skipped for taken in whole] and any(taken.skipped for taken in after)


def test_a_problem_that_teaches_again_is_no_longer_skipped_and_a_group_without_scores_says_nothing():
    known = history(0.9)
    flat, differs = (replace(group(0, 0, flat=is_flat), problem=problem(0)) for is_flat in (True, False))
    unscored = replace(flat, episodes=tuple(replace(episode, score=None) for episode in flat.episodes))
    known.note(unscored, True)
    assert not known.in_a_row
    for _ in range(9):
        known.note(flat, True)
    assert known.in_a_row == {problem(0).id: 9}
    often = [known.skips(PROBLEMS * position) for position in range(2000)]
    assert sum(often) / len(often) == pytest.approx(MOST_SKIPPED, abs=0.02), "it keeps a chance"
    assert not any(known.skips(PROBLEMS * position + 1) for position in range(100))
    known.note(differs, False)
    assert not any(known.skips(PROBLEMS * position) for position in range(100))


async def test_a_failure_during_a_refill_loses_no_group():
    async def collect(position: int) -> Group:
        if position == 4:
            raise RuntimeError("engine gone")
        return group(position, 0, flat=position in (1, 3))

    async with GroupStream(collect, StreamLimits(3, 0, 0.0, 2), last_step=9) as stream:
        stream.start(0)
        with pytest.raises(RuntimeError, match="engine gone"):
            await stream.take()
        assert [ready.position for ready in stream.state().ready] == [0, 1, 2, 3]


@pytest.mark.parametrize("refill", [0, 2])
async def test_a_resumed_stream_takes_every_group_once(refill):
    def flat(position: int) -> bool:
        return refill > 0 and position % 3 == 0

    source = Source(delay_s=lambda position: 0.001 * (1 + position % 4), flat=flat)
    limits = StreamLimits(3, 2, 0.4, refill)
    async with GroupStream(source.collect, limits, last_step=6) as stream:
        before = await train(stream, source, 3)
        state = stream.state()
    again = Source(flat=flat)
    async with GroupStream(again.collect, limits, last_step=6, state=state) as stream:
        after = await train(stream, again, 3, first=3)
    replaced = sum(len(taken.replaced) for taken in before + after)
    assert Counter(position for taken in before + after for position in numbers(taken.collected)) == Counter(range(18 + replaced))
    assert bool(replaced) == bool(refill)


async def test_a_restored_group_waits_its_turn_behind_one_that_starts_anew():
    source = Source()
    state = StreamState(3, (Ready(1, 0, group(1, 0)), Ready(2, 0, group(2, 0))), (0,))
    async with GroupStream(source.collect, StreamLimits(1, 2, 0.0, 0), last_step=4, state=state) as stream:
        steps = await train(stream, source, 3, first=1)
    assert [positions(taken) for taken in steps] == [[0], [1], [2]]


async def test_a_failed_group_ends_the_step_with_its_error_and_leaves_no_task():
    async def broken(position: int) -> Group:
        if position == 2:
            raise RuntimeError("engine gone")
        await asyncio.sleep(10)
        raise AssertionError

    with pytest.raises(RuntimeError, match="engine gone"):
        async with GroupStream(broken, StreamLimits(4, 1, 0.0, 0), last_step=4) as stream:
            stream.start(0)
            await stream.take()
    assert len(asyncio.all_tasks()) == 1


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 5),
    staleness=st.integers(0, 3),
    late=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    refill=st.integers(0, 3),
    seed=st.integers(0, 10_000),
)
def test_whatever_the_delays_no_group_is_too_old_none_is_lost_and_none_is_learnt_twice(size, staleness, late, refill, seed):
    rng = random.Random(seed)
    delays = {position: rng.choice([0.0, 0.0, 0.0, 0.001, 0.004]) for position in range(1000)}
    flat = {position: rng.random() < 0.3 for position in range(1000)}
    limits = StreamLimits(size, staleness, late, refill)
    source = Source(delays.__getitem__, flat.__getitem__)

    async def whole_run() -> list[StepGroups]:
        async with GroupStream(source.collect, limits, last_step=6) as stream:
            steps = await train(stream, source, 6)
            assert stream.state().ready == () and stream.state().under_way == ()
            return steps

    steps = asyncio.run(whole_run())
    collected = [position for taken in steps for position in numbers(taken.collected)]
    assert sorted(collected) == sorted(position for position, _ in source.started) == list(range(len(collected)))
    for taken in steps:
        assert len(taken.groups) == size and positions(taken) == sorted(positions(taken))
        assert len(taken.replaced) <= refill and all(flat[position] for position in numbers(taken.replaced))
        assert taken.flat == sum(flat[position] for position in positions(taken))
        assert taken.flat == 0 or len(taken.replaced) == refill  # only what cannot be replaced any more is learnt flat
    assert max(age for taken in steps for age in taken.staleness) <= staleness
    assert source.most <= limits.window
