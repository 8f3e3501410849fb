"""Groups without end, collected beside the learner, with a bound on how old their weights may be.

Each position of the stream is one query's group. A group is *started* under the weights version of that moment and *taken* by
one update; its staleness is the update's version minus the version it was started under, and never exceeds ``max_staleness``.
Every group that was started is taken by exactly one update, however long its episodes are: slow groups are waited for or
carried over, none is dropped for its length, so that nothing favours short episodes. What is taken is learnt, except flat groups
(whose rewards do not differ) that further groups replaced.

At most ``window`` groups are under way or waiting to be taken, so nothing grows where the learner is slow.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rollout.groups.collect import cancel_all
from rollout.groups.credit import differs_in_parts
from rollout.records import Group

FLAT_SPREAD = 1e-4
"""Rewards of a group that lie no further apart do not differ, where a solved problem is worth about 1: what the clock or the last cent
of a bill makes of equal workflows teaches nothing."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How far collecting may run ahead of learning."""

    groups_per_step: int
    max_staleness: int
    """Updates that a group may be older than the weights that it changes; 0: strictly on-policy, collecting and learning take turns."""
    late_share: float
    """Share of a step's groups that may be late: as many more are under way, and the slowest are taken one step later."""
    refill: int
    """Flat groups that one step may replace by further ones (DAPO's dynamic sampling)."""

    @property
    def late_groups(self) -> int:
        """Groups beyond a step's own that are under way; being late takes staleness, so none where that is 0."""
        return math.ceil(self.late_share * self.groups_per_step) if self.max_staleness else 0

    @property
    def window(self) -> int:
        """Groups under way or ready, at most. What may be late by a step cannot also be collected a step ahead."""
        ahead = self.max_staleness - 1 if self.late_groups else self.max_staleness
        return self.groups_per_step * (1 + ahead) + self.late_groups


@dataclass(frozen=True, slots=True)
class Ready:
    """A collected group that waits for its update."""

    position: int
    version: int
    """Of the weights when it was started: no token is older."""
    group: Group


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a checkpoint keeps of a stream."""

    next_position: int
    """First position that has not been started."""
    ready: tuple[Ready, ...]
    under_way: tuple[int, ...]
    """Positions that were started and are not collected yet; a resumed stream starts them anew."""


@dataclass(frozen=True, slots=True)
class StepGroups:
    """The groups of one update, in the order of their positions."""

    groups: tuple[Group, ...]
    """A step's worth of them, to be learnt."""
    replaced: tuple[Group, ...]
    """Flat ones in whose place others stand: collected and paid for, and not learnt."""
    staleness: tuple[int, ...]
    """For each group to be learnt the updates between its oldest token and the weights that it changes."""
    late: int
    """Groups that were started before the youngest of these and are still under way."""
    left: int
    """Groups that are ready and wait for the next update."""
    wait_s: float
    """Seconds that the learner waited for them."""
    flat: int
    """Flat groups among those to be learnt: ``refill`` did not reach for them."""

    @property
    def collected(self) -> tuple[Group, ...]:
        """All that the step paid for: what is learnt, then what was replaced."""
        return self.groups + self.replaced


class GroupStream:
    """Collects ahead, hands out a step's groups. An async context manager: leaving it ends what is under way."""

    def __init__(
        self, collect: Callable[[int], Awaitable[Group]], limits: StreamLimits, *, last_step: int, state: StreamState | None = None
    ) -> None:
        """
        Args:
            collect: makes the group at a position.
            last_step: number of updates of the run; nothing is started that none of them would take.
            state: of an earlier session.
        """
        self._collect = collect
        self._limits = limits
        self._last_step = last_step
        state = state or StreamState(0, (), ())
        self._next_position = state.next_position
        self._again = list(state.under_way)
        self._ready = {ready.position: ready for ready in state.ready}
        self._under_way: dict[asyncio.Task[Group], tuple[int, int]] = {}
        self._version = 0

    async def __aenter__(self) -> "GroupStream":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await cancel_all(self._under_way)

    def start(self, version: int) -> None:
        """New weights are out: starts the groups that may be collected with them."""
        self._version = version
        self._fill(min(self._limits.window, (self._last_step - version) * self._limits.groups_per_step))

    async def take(self) -> StepGroups:
        """The groups of the next update; waits until enough are collected and none is left that would become too old.

        For each flat group one further is collected, ``refill`` at most, and takes the place of a flat one.

        Raises:
            Exception: what ``collect`` raised.
        """
        began_s = asyncio.get_running_loop().time()
        taken: list[Ready] = []
        wanted, refill = self._limits.groups_per_step, self._limits.refill
        try:
            while wanted:
                self._fill(wanted)
                chosen = await self._choose(wanted)
                taken += chosen
                wanted = min(sum(is_flat(ready.group) for ready in chosen), refill)
                refill -= wanted
        except BaseException:
            self._ready |= {ready.position: ready for ready in taken}  # none is lost
            raise
        taken.sort(key=lambda ready: (is_flat(ready.group), ready.position))
        size = self._limits.groups_per_step
        learnt, replaced = sorted(taken[:size], key=lambda ready: ready.position), taken[size:]
        youngest = max(ready.position for ready in taken)
        return StepGroups(
            groups=tuple(ready.group for ready in learnt),
            replaced=tuple(ready.group for ready in replaced),
            staleness=tuple(self._version - oldest_version(ready) for ready in learnt),
            late=sum(position < youngest for position, _ in self._under_way.values()),
            left=len(self._ready),
            wait_s=asyncio.get_running_loop().time() - began_s,
            flat=sum(is_flat(ready.group) for ready in learnt),
        )

    def state(self) -> StreamState:
        """What has been started and not taken, for a checkpoint."""
        under_way = sorted([position for position, _ in self._under_way.values()] + self._again)
        return StreamState(self._next_position, tuple(self._ready[position] for position in sorted(self._ready)), tuple(under_way))

    async def settle(self) -> None:
        """Waits until nothing is under way."""
        while self._under_way:
            await self._collect_some()

    def _fill(self, outstanding: int) -> None:
        """Starts groups until that many are under way or ready."""
        while len(self._under_way) + len(self._ready) < outstanding:
            if self._again:
                position = self._again.pop(0)
            else:
                position, self._next_position = self._next_position, self._next_position + 1
            task = asyncio.ensure_future(self._collect(position))
            self._under_way[task] = (position, self._version)

    async def _choose(self, wanted: int) -> list[Ready]:
        """Takes ``wanted`` ready groups: in turn, or, where some may be late, those first that become too old first."""
        while True:
            order = sorted(self._ready.values(), key=lambda ready: (ready.version if self._limits.late_groups else 0, ready.position))
            chosen = order[:wanted]
            if len(chosen) == wanted and self._may_take(chosen):
                for ready in chosen:
                    del self._ready[ready.position]
                return chosen
            await self._collect_some()

    def _may_take(self, chosen: Sequence[Ready]) -> bool:
        """False where what is left would force a later update to exceed its size or the bound; without late groups, also out of turn."""
        limits = self._limits
        left = [(position, version) for position, version in self._under_way.values()]
        left += [(ready.position, ready.version) for ready in self._ready.values() if ready not in chosen]
        if not limits.late_groups:
            return not left or max(ready.position for ready in chosen) < min(position for position, _ in left)
        for ahead in range(limits.max_staleness + 1):
            due = sum(version + limits.max_staleness <= self._version + ahead for _, version in left)
            if due > ahead * limits.groups_per_step:
                return False
        return True

    async def _collect_some(self) -> None:
        """Waits for one group or more and moves them to the ready ones."""
        assert self._under_way, "a step waits for groups that were never started"
        done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            position, version = self._under_way.pop(task)
            self._ready[position] = Ready(position, version, task.result())


def is_flat(group: Group) -> bool:
    """True where no two scored episodes of the group differ in reward by more than ``FLAT_SPREAD``, nor do parts of them: the group
    teaches nothing."""
    rewards = [episode.score.total for episode in group.episodes if episode.score is not None]
    return (not rewards or max(rewards) - min(rewards) <= FLAT_SPREAD) and not differs_in_parts(group, FLAT_SPREAD)


def oldest_version(ready: Ready) -> int:
    """Version of the oldest weights that sampled a token of the group."""
    return min((episode.weights_version for episode in ready.group.episodes), default=ready.version)
