"""A link between threads, over gloo."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
import torch

from rollout.engines.interface import Engine
from rollout.fleet.publishing import Update
from rollout.weights.buckets import Bucket, TensorSum, as_bytes, digest, offsets, sums, tensor_of
from rollout.weights.link import Address, Link, new_address
from rollout.weights.sender import WeightsSender
from rollout.weights.source import HeldWeights

CPU = torch.device("cpu")


def joined(address: Address) -> list[Link]:
    """All members of a link."""
    with ThreadPoolExecutor(address.members) as pool:
        return list(pool.map(lambda member: Link(address, member, CPU), range(address.members)))


def test_buckets_reach_every_member_bit_for_bit_and_in_order() -> None:
    links = joined(new_address("127.0.0.1", 3))
    buckets = [[("a", torch.randn(7, 3)), ("b", torch.randn(5).bfloat16())], [("c", torch.randn(1000, 100))]]
    told = [sums(bucket) for bucket in buckets]

    def receive(link: Link) -> list[torch.Tensor]:
        found = []
        for about in told:
            data, starts = link.receive(about), offsets(about)[0]
            found += [tensor_of(data[start : start + one.nbytes], one) for one, start in zip(about, starts, strict=True)]
        return found

    with ThreadPoolExecutor(2) as pool:
        receiving = [pool.submit(receive, link) for link in links[1:]]
        for bucket, about in zip(buckets, told, strict=True):
            links[0].send(bucket, about)
    for one in receiving:
        assert all(torch.equal(a, b) for a, (_, b) in zip(one.result(), [pair for bucket in buckets for pair in bucket], strict=True))


def test_a_sender_whose_member_is_gone_fails_instead_of_waiting() -> None:
    links = joined(new_address("127.0.0.1", 2))
    links.pop()
    bucket = [("a", torch.randn(2_000_000))]
    with pytest.raises(RuntimeError):  # else the test's own limit ends it
        links[0].send(bucket, sums(bucket))
    assert as_bytes(bucket[0][1]).numel() == 8_000_000


class LinkedEngine:
    """An engine that takes buckets over a link; only what an update calls."""

    def __init__(self) -> None:
        self.received: list[TensorSum] = []

    async def start_update(self, version: int) -> None:
        self.received = []

    async def connect(self, address: Address, first: int) -> None:
        self.link = await asyncio.to_thread(Link, address, first, CPU)

    async def load_bucket(self, bucket: Bucket) -> None:
        data, starts = await asyncio.to_thread(self.link.receive, bucket.tensors), offsets(bucket.tensors)[0]
        for one, start in zip(bucket.tensors, starts, strict=True):
            tensor_of(data[start : start + one.nbytes], one)
        self.received += bucket.tensors

    async def finish_update(self, version: int) -> int:
        return digest(self.received)


class LateSender(WeightsSender):
    """Each bucket leaves a while after it could: as on a machine whose threads wait for a core."""

    def send(self) -> None:
        time.sleep(0.05)
        super().send()


class LateWeights(HeldWeights):
    def __init__(self, tensors: list[tuple[str, torch.Tensor]]) -> None:
        super().__init__(tensors)
        self._outgoing = LateSender()

    async def link_address(self, members: int) -> Address:
        return new_address("127.0.0.1", members)


async def test_engines_that_ask_for_the_same_weights_at_the_same_time_all_get_them() -> None:
    weights = [(f"t{i}", torch.randn(50, 20)) for i in range(4)]
    source = LateWeights(weights)
    update = Update(3, source, max_bytes=4_000, keep=False, timeout_s=60.0, workers=1)
    engines = [LinkedEngine() for _ in range(3)]
    await asyncio.gather(*(update.resend(cast(Engine, engine)) for engine in engines))
    assert [digest(engine.received) for engine in engines] == [digest(sums(weights))] * 3
