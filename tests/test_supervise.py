"""The place of an actor: one repair for one failure, whoever notices it, and an end to repairs."""

import asyncio

from sandbox.supervise import STARTS, Supervised


class Scripted:
    """An actor that starts or does not."""

    def __init__(self, starts: bool = True) -> None:
        self.starts, self.killed, self.closed = starts, False, False

    async def placed(self) -> None: ...

    async def ready(self) -> None:
        if not self.starts:
            raise RuntimeError("no memory")

    async def close(self) -> None:
        self.closed = True

    def kill(self) -> None:
        self.killed = True


class Place(Supervised[Scripted]):
    """Hands out scripted actors in turn; notes what happens."""

    def __init__(self, *starts: bool) -> None:
        self.made: list[Scripted] = []
        self.said: list[str] = []
        self.repairs = 0
        self._starts = list(starts)
        super().__init__("Actor 1", self._make, start_timeout_s=5, meanwhile="another comes", say=self.said.append)

    def _make(self) -> Scripted:
        self.made.append(Scripted(self._starts.pop(0) if self._starts else True))
        return self.made[-1]

    async def settled(self) -> None:
        self.repairs += 1


async def mended(place: Place) -> None:
    assert place.repair is not None and not place.up
    await place.repair


async def test_a_failure_that_many_notice_is_mended_once():
    place = Place()
    first = place.actor
    for why in ("it died", "it does not answer"):
        place.mend(first, why)
    await mended(place)
    place.mend(first, "it died long ago")
    assert place.up and place.actor is place.made[1] and len(place.made) == 2 and place.repairs == 1
    assert first.killed and place.said == ["Actor 1 failed (it died): another comes."]


async def test_a_place_is_given_up_after_so_many_starts_and_those_who_wait_are_told():
    place = Place(True, *[False] * STARTS)
    place.mend(place.actor, "it died")
    await mended(place)
    assert not place.up and place.lost == "RuntimeError: no memory" and place.repairs == 1
    assert place.said[-1] == "Actor 1 IS GIVEN UP: 3 new ones in a row failed, the last with: RuntimeError: no memory"
    assert all(actor.killed for actor in place.made)


async def test_a_place_that_is_closed_during_a_repair_leaves_no_actor():
    place = Place()
    place.mend(place.actor, "it died")
    await asyncio.sleep(0)
    await place.close(1.0)
    assert place.repair is None and all(actor.killed for actor in place.made)
