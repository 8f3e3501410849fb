"""Tensors in buckets and their checksums."""

import os
from itertools import pairwise

import numpy as np
import pytest
import torch

from rollout.engines.vllm.shared_memory import in_memory
from rollout.weights.buckets import WeightsMismatchError, arrays, as_bytes, checksum, digest, in_buckets, offsets, sums, tensor_of


def tensors(count: int = 9, seed: int = 0) -> list[tuple[str, torch.Tensor]]:
    """Tensors of several sizes and dtypes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(), (1,), (3,), (7, 5), (1024, 8), (1025, 3), (2, 3, 4), (8192,), (33, 1024)]
    dtypes = [torch.float32, torch.bfloat16, torch.float16]
    return [(f"t{i}", torch.randn(shapes[i % 9], generator=generator).to(dtypes[i % 3])) for i in range(count)]


@pytest.mark.parametrize("index", range(9))
def test_any_changed_bit_changes_the_checksum(index: int) -> None:
    _, tensor = tensors()[index]
    before, data = checksum(tensor), as_bytes(tensor)
    places = np.random.default_rng(0).integers(0, data.numel(), 50)
    for place in places:
        for bit in (1, 64, 128):
            changed = data.clone()
            changed[place] ^= bit
            assert checksum(changed) != before


def test_rows_columns_and_elements_that_change_places_change_the_checksum() -> None:
    table = torch.randn(2048, 64)
    others = [table.flip(0), table.flip(1), table[torch.randperm(2048)], table.T.contiguous().view(2048, 64)]
    assert len({checksum(one) for one in [table, *others]}) == 5


def test_the_checksum_is_of_the_values_in_order_and_not_of_their_layout_in_memory() -> None:
    table = torch.randn(30, 50)
    assert checksum(table.T) == checksum(table.T.contiguous())


def test_the_digest_minds_names_and_values_but_neither_order_nor_buckets() -> None:
    told = sums(tensors())
    assert digest(told) == digest(reversed(told))
    assert digest(told) != digest(told[1:]) and digest(told) != digest(sums(tensors(seed=1)))
    swapped = [(name, other) for (name, _), (_, other) in zip(tensors(2), reversed(tensors(2)), strict=True)]
    assert digest(sums(swapped)) != digest(sums(tensors(2)))


@pytest.mark.parametrize("max_bytes", [1, 100, 5000, 10**9])
def test_buckets_keep_the_order_and_their_size(max_bytes: int) -> None:
    buckets = list(in_buckets(tensors(20), max_bytes))
    assert [name for bucket in buckets for name, _ in bucket] == [name for name, _ in tensors(20)]
    assert all(len(bucket) == 1 or sum(tensor.nbytes for _, tensor in bucket) <= max_bytes for bucket in buckets)
    assert all(sum(tensor.nbytes for _, tensor in [*bucket, following[0]]) > max_bytes for bucket, following in pairwise(buckets))


def test_a_bucket_arrives_bit_for_bit_through_memory_that_leaves_nothing_behind() -> None:
    sent = tensors()
    told = sums(sent)
    starts, size = offsets(told)
    open_before = len(os.listdir("/proc/self/fd"))
    with in_memory(told, arrays(sent)) as path, open(path, "rb") as file:
        data = torch.frombuffer(bytearray(file.read(size)), dtype=torch.uint8)
    assert len(os.listdir("/proc/self/fd")) == open_before
    for (_, tensor), one, start in zip(sent, told, starts, strict=True):
        assert torch.equal(tensor_of(data[start : start + one.nbytes], one), tensor)


def test_a_tensor_with_other_bytes_than_were_sent_is_refused_by_name() -> None:
    (told,) = sums([("model.norm.weight", torch.ones(4))])
    with pytest.raises(WeightsMismatchError, match=r"^model\.norm\.weight \(4,\) arrived with checksum \w{16} and was sent with"):
        tensor_of(as_bytes(torch.tensor([1.0, 1.0, 1.0, 2.0])), told)
