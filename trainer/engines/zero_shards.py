"""This rank's part of what a ZeRO optimizer trains: read, exchanged, saved and restored in place. Imports nothing of DeepSpeed.

ZeRO keeps trainable weights in a few flat tensors. In stages 1 and 2 every rank computes with all of them and owns one part; in
stage 3 it has only its part. Beside each part lie the float32 master weights that AdamW steps, and AdamW's moments.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


class ZeroShards:
    """A view on DeepSpeed's ``DeepSpeedZeroOptimizer`` (stages 1 and 2) or ``DeepSpeedZeroOptimizer_Stage3``."""

    def __init__(self, optimizer: Any, stage: int, frozen: Sequence[Any]) -> None:
        """
        Args:
            frozen: parameters that are not trained, beside adapters.
        """
        self._optimizer = optimizer
        self._whole = stage < 3
        self._frozen = frozen

    @property
    def masters(self) -> list[torch.Tensor]:
        """Float32 master weights."""
        return self._optimizer.single_partition_of_fp32_groups if self._whole else self._optimizer.fp32_partitioned_groups_flat

    @property
    def weights(self) -> list[torch.Tensor]:
        """What the forward pass uses, in the type that it computes in."""
        if not self._whole:
            return self._optimizer.fp16_partitioned_groups_flat
        return [parts[dist.get_rank()] for parts in self._optimizer.parallel_partitioned_bit16_groups]

    @property
    def moments(self) -> list[dict[str, Any]]:
        """AdamW's state of each master; empty before the first step."""
        return [self._optimizer.optimizer.state[master] for master in self.masters]

    def forget_moments(self) -> None:
        """AdamW as new."""
        for state in self.moments:
            for value in state.values():
                value.zero_()

    def settle(self) -> None:
        """Stage 3: lets go of every gathered weight, which would outlive a change of the parts."""
        if not self._whole:
            self._optimizer.empty_partition_cache()

    @torch.no_grad()
    def exchange(self, others: list[torch.Tensor]) -> None:
        """The weights and ``others`` trade places on every rank; master weights stay."""
        self.settle()
        for part, other in zip(self.weights, others, strict=True):
            kept = part.clone()
            part.copy_(other)
            other.copy_(kept)
        self._spread()

    @torch.no_grad()
    def adopt(self) -> None:
        """Master weights follow weights that were changed from outside."""
        for part, master in zip(self.weights, self.masters, strict=True):
            master.copy_(part)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of this rank's part; frozen weights that every rank has whole are rank 0's to keep."""
        keeps = not self._whole or dist.get_rank() == 0
        return {
            "masters": list(self.masters),
            "moments": [dict(state) for state in self.moments],
            "frozen": self._frozen_parts() if keeps else [],
        }

    @torch.no_grad()
    def restore(self, own: dict[str, Any], first: dict[str, Any]) -> None:
        """Puts back what ``state`` returned here and on rank 0."""
        self.settle()
        for master, saved in zip(self.masters, own["masters"], strict=True):
            master.copy_(saved)
        for master, target, saved in zip(self.masters, self.moments, own["moments"], strict=True):
            target.clear()
            target.update({name: value.to(master.device, copy=True) for name, value in saved.items()})
        for part, master in zip(self.weights, self.masters, strict=True):
            part.copy_(master)
        self._spread()
        for part, saved in zip(self._frozen_parts(), (first if self._whole else own)["frozen"], strict=True):
            part.copy_(saved)

    def _frozen_parts(self) -> list[torch.Tensor]:
        return [(parameter if self._whole else parameter.ds_tensor).detach() for parameter in self._frozen]

    def _spread(self) -> None:
        """Stages 1 and 2: every rank gets the parts of all others."""
        if self._whole:
            for whole, part in zip(self._optimizer.bit16_groups_flat, self.weights, strict=True):
                dist.all_gather_into_tensor(whole, part)
