"""DeepSpeed ZeRO stages 1, 2 and 3 as an engine of verl. The only file that imports deepspeed.

The model, its adapters, the way from tokens to log-probabilities and the losses are those of the FSDP2 engine; what
differs is who holds which part of weights, gradients and optimizer. No operator of DeepSpeed is compiled: AdamW is torch's.
"""

import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft.tuners.lora import LoraLayer
from tensordict import TensorDict
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForCausalLM
from transformers.initialization import no_init_weights
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.utils.checkpoint.checkpoint_manager import BaseCheckpointManager
from verl.utils.device import get_device_id, get_device_name
from verl.workers.config import FSDPOptimizerConfig, HFModelConfig
from verl.workers.config.optimizer import build_optimizer
from verl.workers.engine import EngineRegistry
from verl.workers.engine.utils import detach_tree, postprocess_batch_func, prepare_micro_batches

from trainer.engines.data_parallel import DataParallelEngine
from trainer.engines.deepspeed_config import DeepSpeedEngineConfig, make_deepspeed_config
from trainer.engines.lora import adapter_of, add_adapter, shorten
from trainer.engines.packed_logprobs import PackedLogProbs
from trainer.engines.reference import KeptReference
from trainer.engines.zero_shards import ZeroShards

os.environ.setdefault("DS_ACCELERATOR", get_device_name())

import deepspeed
from deepspeed.runtime.config import DeepSpeedConfig
from deepspeed.runtime.zero.config import ZERO_OPTIMIZATION

# Which of its operators could be compiled here: none is wanted, not even shared-memory collectives for CPU ranks.
setattr(deepspeed.ops, "__compatible_ops__", {})  # noqa: B010  probed at first access otherwise
logging.getLogger("DeepSpeed").setLevel(logging.WARNING)


@EngineRegistry.register(model_type="language_model", backend="deepspeed", device=["cpu", "cuda"])
class DeepSpeedEngine(PackedLogProbs, KeptReference, DataParallelEngine):
    """ZeRO over all ranks; the attention implementation is ``trainer.engines.shared_prompt``."""

    def __init__(
        self,
        model_config: HFModelConfig,
        engine_config: DeepSpeedEngineConfig,
        optimizer_config: FSDPOptimizerConfig,
        checkpoint_config: CheckpointConfig,
    ) -> None:
        super().__init__()
        self.model_config = model_config
        self.engine_config = engine_config
        self.optimizer_config = optimizer_config
        self.checkpoint_config = checkpoint_config
        self.rank = dist.get_rank()
        self.module: Any = None
        self.lr_scheduler: Any = None
        self._zero: Any = None
        """DeepSpeed's engine of the model; its ``optimizer`` wraps AdamW."""
        self._shards: Any = None

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the forward pass computes in; master weights and sums of gradients are float32."""
        return torch.bfloat16 if self.engine_config.bf16 else torch.float32

    def initialize(self) -> None:
        """Loads the model and hands it to DeepSpeed."""
        deepspeed.init_distributed(dist_init_required=False)
        stage = self.engine_config.zero_stage
        module = self._sharded_model() if stage == 3 else self._whole_model()
        if self.model_config.enable_gradient_checkpointing:
            module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if self.model_config.lora_rank > 0:
            module = add_adapter(module, self.model_config, self.engine_config.seed)
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = build_optimizer(trainable, self.optimizer_config)
        config = self._json(trainable)
        self._zero = _ZeroEngine(None, module, optimizer, dist_init_required=False, config=config, config_class=DeepSpeedConfig(config))
        self.module = self._zero.module
        self._shards = ZeroShards(self._zero.optimizer, stage, [one for one in self.module.parameters() if not one.requires_grad])
        self.configure_optimizer(self.optimizer_config, lambda step: 1.0)

    def _json(self, trainable: list[torch.nn.Parameter] | None = None) -> dict[str, Any]:
        elements = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in trainable or [])
        return make_deepspeed_config(self.engine_config, self.optimizer_config.clip_grad, elements)

    def _whole_model(self) -> Any:
        """Every rank computes with all weights in stages 1 and 2."""
        config = self.model_config.hf_config
        return AutoModelForCausalLM.from_pretrained(self.model_config.local_path, config=config, dtype=self.compute_dtype)

    def _sharded_model(self) -> Any:
        """Built shard by shard; rank 0 alone loads the weights and the others take their parts of each tensor from it."""
        with no_init_weights(), deepspeed.zero.Init(config_dict_or_path=self._json()):
            module = AutoModelForCausalLM.from_config(self.model_config.hf_config, dtype=self.compute_dtype)
        module.tie_weights()
        source = dict(self._whole_model().named_parameters()) if self.rank == 0 else {}
        for name, parameter in module.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
                if self.rank == 0:
                    parameter.copy_(source[name])
        return module

    def configure_optimizer(self, config: FSDPOptimizerConfig, factor: Callable[[int], float]) -> None:
        """AdamW as new, over the same master weights; ``factor`` is what the learning rate is multiplied by at each step."""
        self.optimizer_config = config
        optimizer = self._zero.optimizer.optimizer
        self._shards.forget_moments()
        for group in optimizer.param_groups:
            group.pop("initial_lr", None)
            group.update(lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
        self._zero.optimizer.clip_grad = config.clip_grad
        self.lr_scheduler = LambdaLR(optimizer, factor)

    def optimizer_zero_grad(self) -> None:
        self._zero.optimizer.zero_grad()

    def optimizer_step(self) -> float:
        """Clips and steps; a gradient that is not finite is left out.

        Returns:
            norm of the gradients before clipping.
        """
        self._zero.step()
        self._shards.settle()
        return float(self._zero.get_global_grad_norm())

    def forward_backward_batch(self, data: TensorDict, loss_function: Callable[..., Any] | None, forward_only: bool = False) -> Any:
        """Forward (and backward) passes over micro-batches of at most ``max_token_len_per_gpu`` tokens, as many on every rank."""
        tokens = data["loss_mask"].sum().to(get_device_id())
        dist.all_reduce(tokens)
        tu.assign_non_tensor(data, sp_size=1, batch_num_tokens=tokens.item(), dp_size=dist.get_world_size())
        keep_outputs = forward_only or tu.get_non_tensor_data(data=data, key="return_model_output", default=False)
        micro_batches, indices = prepare_micro_batches(data=data, dp_group=self.get_data_parallel_group(), same_micro_num_in_dp=True)
        outputs = []
        for number, micro_batch in enumerate(micro_batches):
            self._zero.set_gradient_accumulation_boundary(number == len(micro_batches) - 1)
            with torch.no_grad() if forward_only else nullcontext():
                loss, output = self._forward(micro_batch, loss_function)
            if not forward_only:
                self._zero.backward(loss)
            if not keep_outputs:
                output.pop("model_output")
            outputs.append(output)
        return postprocess_batch_func(output_lst=outputs, indices=indices, data=data)

    def _forward(self, micro_batch: TensorDict, loss_function: Callable[..., Any] | None) -> tuple[torch.Tensor, dict[str, Any]]:
        micro_batch = micro_batch.to(get_device_id())
        inputs, arguments = self.prepare_model_inputs(micro_batch)
        forward = self._zero if self.mode == "train" else self.module
        model_output = self.prepare_model_outputs(forward(**inputs, use_cache=False), arguments, micro_batch, loss_function)
        loss, metrics = torch.ones((), device=get_device_id()), {}
        if loss_function is not None:
            loss, metrics = loss_function(model_output=model_output, data=micro_batch, dp_group=self.get_data_parallel_group())
        return loss, {"model_output": detach_tree(model_output), "loss": loss.detach().item(), "metrics": metrics}

    def frozen_copy(self) -> list[torch.Tensor]:
        """A copy of this rank's part of the trainable weights."""
        return [part.detach().clone() for part in self._shards.weights]

    def exchange(self, frozen: list[torch.Tensor]) -> None:
        """The trainable weights and ``frozen`` trade places."""
        self._shards.exchange(frozen)

    @torch.no_grad()
    def fold(self, layers: list[LoraLayer]) -> None:
        """Adds each layer's adapter to its weight and sets the adapter to 0."""
        self._shards.settle()
        for layer in layers:
            weight, down, up, scale = adapter_of(layer)
            with deepspeed.zero.GatheredParameters([weight, down, up], modifier_rank=0):
                if self.rank == 0 or self.engine_config.zero_stage < 3:
                    weight += (scale * (up.float() @ down.float())).to(weight.dtype)
                    up.zero_()
        self._shards.adopt()

    def full_tensor(self, parameter: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A parameter gathered from all ranks, which all call this; cast where ``dtype`` is a shorter type."""
        if self.engine_config.zero_stage < 3:
            return shorten(parameter.detach(), dtype)
        with deepspeed.zero.GatheredParameters([parameter]):
            return shorten(parameter.detach().clone(), dtype)

    def save_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> None:
        """One file a rank: its part of the weights, master weights and moments; schedule and generators."""
        state = self._shards.state() | {"schedule": self.lr_scheduler.state_dict(), "generators": BaseCheckpointManager.get_rng_state()}
        torch.save(state, Path(local_path) / f"rank_{self.rank}.pt")
        dist.barrier()

    def load_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> None:
        """Restores what ``save_checkpoint`` wrote with as many ranks."""
        first, own = (
            torch.load(Path(local_path) / f"rank_{rank}.pt", map_location="cpu", weights_only=False, mmap=True) for rank in (0, self.rank)
        )
        self._shards.restore(own, first)
        state = own
        self.lr_scheduler.load_state_dict(state["schedule"])
        for group, rate in zip(self._zero.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
        BaseCheckpointManager.load_rng_state(state["generators"])
        dist.barrier()


class _ZeroEngine(deepspeed.DeepSpeedEngine):
    """What ``deepspeed.initialize`` makes, with one optimizer for all stages and types.

    For stage 1 in bfloat16 DeepSpeed would take another one, which stops at a gradient of 0 and steps where one is not finite.
    """

    def _do_optimizer_sanity_check(self, basic_optimizer: torch.optim.Optimizer) -> Any:
        return ZERO_OPTIMIZATION
