"""verl's FSDP2 engine with our way from tokens to log-probabilities, on CPU ranks and on NVIDIA GPUs.

Sharding, micro-batches, gradients, clipping and checkpoints are verl's. verl registers its own engine under the same name for
any GPU; ours is registered for NVIDIA, which verl looks up first.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from peft.tuners.lora import LoraLayer
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR
from verl.utils.device import get_device_id
from verl.workers.config import FSDPOptimizerConfig
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from trainer.engines.lora import adapter_of, add_adapter, shorten
from trainer.engines.packed_logprobs import PackedLogProbs
from trainer.engines.reference import KeptReference


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cpu")
@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cuda", vendor="nvidia")
class PackedFSDPEngine(PackedLogProbs, KeptReference, FSDPEngineWithLMHead):
    """FSDP2 with packed rows; the model's attention implementation is ``trainer.engines.shared_prompt``."""

    engine_config: Any
    checkpoint_manager: Any
    _autocast_dtype: torch.dtype
    _build_optimizer: Any

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the forward pass computes in; weights and their gradients' sums stay float32."""
        return self._autocast_dtype

    def configure_optimizer(self, config: FSDPOptimizerConfig, factor: Callable[[int], float]) -> None:
        """A fresh AdamW; ``factor`` is what the learning rate is multiplied by at each step."""
        self.optimizer_config = config
        self.optimizer = self._build_optimizer(self.module)
        self.lr_scheduler = LambdaLR(self.optimizer, factor)
        self.checkpoint_manager.optimizer = self.optimizer
        self.checkpoint_manager.lr_scheduler = self.lr_scheduler

    def frozen_copy(self) -> list[torch.Tensor]:
        """A copy of this rank's part of the trainable weights."""
        return [shard.clone() for shard in self._shards()]

    @torch.no_grad()
    def exchange(self, frozen: list[torch.Tensor]) -> None:
        """The trainable weights and ``frozen`` trade places."""
        self._reshard()
        for shard, other in zip(self._shards(), frozen, strict=True):
            kept = shard.clone()
            shard.copy_(other)
            other.copy_(kept)

    @torch.no_grad()
    def fold(self, layers: list[LoraLayer]) -> None:
        """Adds each layer's adapter to its weight and sets the adapter to 0; a weight and its B are cut into the same rows."""
        self._reshard()
        for layer in layers:
            weight, down, up, scale = adapter_of(layer)
            rows, up_rows = _local(weight), _local(up)
            rows += (scale * (up_rows.float() @ self.full_tensor(down).float())).to(rows.dtype)
            up_rows.zero_()

    def full_tensor(self, parameter: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A parameter gathered from all ranks, which all call this; cast before, where ``dtype`` is a shorter type."""
        part = shorten(parameter.detach(), dtype)
        return cast(DTensor, part.to(get_device_id())).full_tensor().detach() if isinstance(part, DTensor) else part

    def load_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> None:
        """verl's, after which no rank goes on with an unsharded copy of the old weights."""
        super().load_checkpoint(local_path, del_local_after_load=False)
        self._reshard()

    def _shards(self) -> list[torch.Tensor]:
        return [_local(parameter) for parameter in self.module.parameters() if parameter.requires_grad]

    def _reshard(self) -> None:
        for module in self.module.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def _build_lora_module(self, module: torch.nn.Module) -> torch.nn.Module:
        return add_adapter(module, self.model_config, self.engine_config.seed)


def _local(parameter: torch.Tensor) -> torch.Tensor:
    """This rank's part of a parameter, sharing its memory."""
    return (parameter.to_local() if isinstance(parameter, DTensor) else parameter).detach()
