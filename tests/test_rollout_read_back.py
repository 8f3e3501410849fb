"""Reading back what a model holds, on layers that fuse and pack as vLLM's do."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rollout.engines.vllm.read_back import CHUNK, INTEGERS, ReadBack, bits
from rollout.weights.buckets import WeightsMismatchError


class Multiply:
    """How vLLM's layers compute on CPU."""

    def apply(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        return layer.cpu_linear(x, layer.weight, None)


class Linear(nn.Module):
    """Rows of several tensors in one matrix; packed, the layer keeps only a function of it."""

    def __init__(self, parts: list[torch.Tensor], *, packed: bool, keep: bool = False) -> None:
        super().__init__()
        whole = torch.cat(parts)
        self.input_size = whole.shape[1]
        self.weight = nn.Parameter(whole.clone() if keep or not packed else torch.empty(0, dtype=whole.dtype))
        self.quant_method = Multiply()
        if packed:
            copy = whole.clone()
            self.cpu_linear = lambda x, weight, bias: x @ copy.T


def given(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Weights of a layer under their Hugging Face names."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"q": (8, 64), "k": (4, 64), "v": (4, 64), "norm": (64,), "embed": (50, 64)}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def model_of(weights: dict[str, torch.Tensor], *, packed: bool) -> Any:
    """The same weights as an engine holds them: fused, the head packed beside the embedding that it is tied to."""
    model: Any = nn.Module()
    model.qkv = Linear([weights["q"], weights["k"], weights["v"]], packed=packed)
    model.norm = nn.Module()
    model.norm.weight = nn.Parameter(weights["norm"])
    padded = torch.cat([weights["embed"], torch.zeros(14, 64, dtype=weights["embed"].dtype)])
    model.head = Linear([padded], packed=packed, keep=True)
    model.embed = nn.Module()
    model.embed.weight = model.head.weight
    return model


def compare(model: nn.Module, weights: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> None:
    read_back = ReadBack(model, dtype, tied=True)
    read_back.expect(weights.items())
    read_back.compare()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_fuses_packs_pads_and_ties_holds_what_it_was_given(packed: bool, dtype: torch.dtype) -> None:
    compare(model_of(given(dtype), packed=packed), given(dtype), dtype)


def test_weights_that_are_cast_on_the_way_in_are_compared_as_the_engine_holds_them() -> None:
    compare(model_of(given(torch.bfloat16), packed=False), given(torch.float32), torch.bfloat16)


def test_a_tensor_that_the_engine_keeps_in_a_longer_type_than_it_was_sent_in_is_compared_too() -> None:
    model = model_of(given(torch.bfloat16), packed=False)
    model.norm.weight = nn.Parameter(given(torch.bfloat16)["norm"].float())
    compare(model, given(torch.bfloat16), torch.bfloat16)
    model.norm.weight.data[3] += 1.0
    with pytest.raises(WeightsMismatchError, match="vectors"):
        compare(model, given(torch.bfloat16), torch.bfloat16)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("stale", "what"), [("k", "matrices"), ("embed", "matrices"), ("norm", "vectors")])
def test_a_tensor_that_stayed_as_it_was_is_seen_however_little_it_should_have_changed(packed: bool, stale: str, what: str) -> None:
    new = {name: tensor * (1 + 1e-6) for name, tensor in given().items()}
    with pytest.raises(WeightsMismatchError, match=f"The {what} that the engine holds sum up to .* rollout.verify_loaded=false"):
        compare(model_of(new | {stale: given()[stale]}, packed=packed), new)


def test_a_tied_head_that_multiplies_with_an_old_packed_copy_is_seen() -> None:
    model = model_of(given(), packed=True)
    new = given() | {"embed": given()["embed"] * 2}
    with torch.no_grad():
        model.head.weight[:50] = new["embed"]
    with pytest.raises(WeightsMismatchError, match=r"^head multiplies with a packed copy of other weights than it holds"):
        compare(model, new)


class LargestAllocation(TorchDispatchMode):
    """Remembers the largest tensor that an operation makes beside those that were there."""

    def __init__(self, *there: torch.Tensor) -> None:
        super().__init__()
        self._there = {tensor.untyped_storage().data_ptr() for tensor in there}
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in self._there:
                self.nbytes = max(self.nbytes, leaf.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("given_as", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5 * CHUNK // 4,), (1, 5 * CHUNK // 4), (5 * CHUNK // 32, 8)])
def test_reading_back_takes_no_memory_that_grows_with_the_tensor(given_as: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape, dtype=given_as)
    model: Any = nn.Module()
    model.weight = nn.Parameter(tensor.to(torch.bfloat16), requires_grad=False)
    read_back = ReadBack(model, torch.bfloat16, tied=False)
    with LargestAllocation(tensor, model.weight) as seen:
        read_back.expect([("weight", tensor)])
        read_back.compare()
    assert seen.nbytes <= 8 * CHUNK, "one element as an int64 for every element of a chunk"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_sum_of_bits_does_not_depend_on_how_a_tensor_is_cut(dtype: torch.dtype) -> None:
    tensor = torch.randn(CHUNK + 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    tensor[::1000] = -0.0
    whole = int((tensor + 0.0).view(INTEGERS[tensor.element_size()]).sum(dtype=torch.int64))
    wide = tensor.view(-1, 64)
    assert bits(tensor, dtype) == bits(wide, dtype) == bits(wide.T) == whole
    assert bits(torch.empty(0, 7, dtype=dtype)) == 0 and bits(torch.ones((), dtype=dtype)) != 0
