"""A link between threads, over gloo."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rollout.weights.buckets import as_bytes, offsets, sums, tensor_of
from rollout.weights.link import Address, Link, new_address

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
