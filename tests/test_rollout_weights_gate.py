"""The gate between sampling and new weights."""

import asyncio

import pytest

from rollout.engines.gate import WeightsGate
from tests.virtual_time import VirtualTimePolicy


@pytest.fixture(scope="module")
def event_loop_policy() -> VirtualTimePolicy:
    return VirtualTimePolicy()


class Sampled:
    """Requests that note the version when they begin and when they end."""

    def __init__(self) -> None:
        self.gate = WeightsGate()
        self.version = 0
        self.seen: list[tuple[int, int]] = []

    async def sample(self, seconds: float) -> None:
        async with self.gate.sampling():
            began = self.version
            await asyncio.sleep(seconds)
            self.seen.append((began, self.version))

    async def publish(self) -> None:
        async with self.gate.updating():
            await asyncio.sleep(0.01)
            self.version += 1


async def test_no_request_sees_two_versions_however_updates_fall() -> None:
    sampled = Sampled()
    requests = [asyncio.create_task(sampled.sample(0.005 * (i % 4))) for i in range(20)]
    for _ in range(3):
        await asyncio.sleep(0.004)
        requests += [asyncio.create_task(sampled.publish()), *(asyncio.create_task(sampled.sample(0.006)) for _ in range(5))]
    await asyncio.wait_for(asyncio.gather(*requests), 5)
    assert len(sampled.seen) == 35 and all(began == ended for began, ended in sampled.seen)
    assert sampled.version == 3 and {began for began, _ in sampled.seen} >= {0, 3}


async def test_requests_sample_side_by_side() -> None:
    sampled = Sampled()
    start = asyncio.get_running_loop().time()
    await asyncio.gather(*(sampled.sample(0.05) for _ in range(50)))
    assert asyncio.get_running_loop().time() - start < 1.0


async def test_a_steady_stream_of_requests_does_not_keep_an_update_out() -> None:
    sampled = Sampled()
    stream = asyncio.create_task(_stream(sampled))
    await asyncio.sleep(0.02)
    await asyncio.wait_for(sampled.publish(), 1.0)
    stream.cancel()


async def _stream(sampled: Sampled) -> None:
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(sampled.sample(0.02))
            await asyncio.sleep(0.005)


async def test_a_request_that_is_cancelled_or_fails_does_not_block_the_next_update() -> None:
    sampled = Sampled()
    hung = asyncio.create_task(sampled.sample(60))
    await asyncio.sleep(0.01)
    update = asyncio.create_task(sampled.publish())
    await asyncio.sleep(0.01)
    assert not update.done()
    hung.cancel()
    await asyncio.wait_for(update, 1.0)
    with pytest.raises(ZeroDivisionError):
        async with sampled.gate.sampling():
            _ = 1 / 0
    await asyncio.wait_for(sampled.publish(), 1.0)


async def test_an_update_that_is_cancelled_while_it_waits_lets_requests_through() -> None:
    sampled = Sampled()
    running = asyncio.create_task(sampled.sample(0.1))
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sampled.publish(), 0.02)
    await asyncio.wait_for(sampled.sample(0.0), 0.05)
    await running


async def test_an_update_that_stops_requests_does_not_wait_for_their_end() -> None:
    sampled = Sampled()
    requests = [asyncio.create_task(sampled.sample(60)) for _ in range(3)]
    await asyncio.sleep(0.01)
    stops = 0

    async def stop() -> None:
        nonlocal stops
        stops += 1
        if stops == 2:  # the first came before the requests had reached the engine
            for request in requests:
                request.cancel()

    async with sampled.gate.updating(stop):
        assert stops == 2 and all(request.done() for request in requests)


async def test_an_update_with_nothing_in_flight_stops_nothing() -> None:
    async def stop() -> None:
        raise AssertionError

    async with WeightsGate().updating(stop):
        pass
