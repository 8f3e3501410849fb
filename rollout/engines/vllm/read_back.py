"""Reads back what an engine loaded and compares it, bit for bit, with what it was given.

vLLM fuses tensors (q, k and v; gate and up) and on CPU packs matrices, after which their weights are gone. Sums of bit patterns do not
mind fusing: those of the parts add up to that of the whole. A packed matrix is read by multiplying it with unit vectors, which gives
columns of it exactly. Works where one worker holds the whole model.
"""

import random
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from rollout.weights.buckets import WeightsMismatchError

COLUMNS = 8
"""Columns of each packed matrix that are read."""
CHUNK = 2**24
"""Elements that are cast and summed at a time: an engine leaves little of its GPU's memory free, and a sum takes 10 bytes an element."""
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class ReadBack:
    """One update: ``expect`` what is loaded, then ``compare``."""

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype, *, tied: bool) -> None:
        """
        Args:
            dtype: that the engine computes in; weights are cast to it.
            tied: head and embedding are one matrix.
        """
        self._model = model
        self._dtype = dtype
        self._tied = tied
        self._packed = any(is_packed(module) for module in model.modules())
        self._draw = random.Random(random.getrandbits(64))
        self._columns: dict[int, list[int]] = {}
        self._vectors = 0
        self._matrices = 0

    def expect(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Counts tensors that are about to be loaded."""
        for name, tensor in tensors:
            if self._tied and name == "lm_head.weight":
                continue
            if tensor.dim() < 2:
                self._vectors += bits(tensor, self._dtype)
            else:
                self._matrices += bits(self._part(tensor), self._dtype)

    def compare(self) -> None:
        """Raises WeightsMismatchError where the model does not hold what was expected."""
        vectors = matrices = 0
        seen: set[int] = set()
        for module in self._model.modules():
            for parameter in module._parameters.values():
                if parameter is None or parameter.numel() == 0 or parameter.data_ptr() in seen:
                    continue
                seen.add(parameter.data_ptr())
                if parameter.dim() < 2:
                    vectors += bits(parameter, self._dtype)
                else:
                    matrices += bits(self._part(parameter), self._dtype)
            if is_packed(module):
                matrices += bits(self._unpack(module))
        for what, found, expected in (("vectors", vectors, self._vectors), ("matrices", matrices, self._matrices)):
            if found != expected:
                raise WeightsMismatchError(
                    f"The {what} that the engine holds sum up to {found} and not to {expected} as those that it was given; "
                    "where vLLM keeps the weights of this model in another form, rollout.verify_loaded=false turns this check off."
                )
        for name, module in find_packed_copies(self._model):
            if bits(self._unpack(module)) != bits(self._part(module.weight), self._dtype):
                raise WeightsMismatchError(f"{name} multiplies with a packed copy of other weights than it holds.")

    def _part(self, matrix: torch.Tensor) -> torch.Tensor:
        """All of a matrix, or, where the engine packs matrices, some columns."""
        return matrix[..., self._choose_columns(matrix.shape[-1])] if self._packed else matrix

    def _choose_columns(self, width: int) -> list[int]:
        if width not in self._columns:
            self._columns[width] = sorted(self._draw.sample(range(width), min(COLUMNS, width)))
        return self._columns[width]

    @torch.no_grad()
    def _unpack(self, module: Any) -> torch.Tensor:
        """Chosen columns of a packed matrix, shape (columns, outputs)."""
        width = module.weight.shape[-1] if module.weight.numel() else module.input_size
        chosen = self._choose_columns(width)
        units = torch.zeros(len(chosen), width, dtype=self._dtype)
        units[range(len(chosen)), chosen] = 1.0
        return module.quant_method.apply(module, units)


def is_packed(module: Any) -> bool:
    """A linear layer whose matrix was packed and dropped."""
    weight = getattr(module, "weight", None)
    return hasattr(module, "cpu_linear") and isinstance(weight, torch.Tensor) and weight.numel() == 0


def find_packed_copies(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Layers that multiply with a packed copy beside the weights that they keep: heads on CPU."""
    for name, module in model.named_modules():
        if hasattr(module, "cpu_linear") and not is_packed(module):
            yield name, module


@torch.no_grad()
def bits(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> int:
    """Sum of the elements' bit patterns, after a cast to ``dtype``; -0.0 counts as 0.0, since a product with a unit vector may give either.

    Temporary memory is bounded, whatever the size of the tensor.
    """
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for piece in pieces(tensor):
        plain = (piece.to(dtype or piece.dtype) + 0.0).contiguous()
        total += plain.view(INTEGERS[plain.element_size()]).sum(dtype=torch.int64)
    return int(total)


def pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Views of at most ``CHUNK`` elements each, which make up the tensor."""
    if tensor.numel() <= CHUNK:
        yield tensor
        return
    longest = max(range(tensor.dim()), key=lambda dimension: tensor.shape[dimension])
    for half in tensor.chunk(2, longest):
        yield from pieces(half)
