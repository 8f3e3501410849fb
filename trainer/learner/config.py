"""Our learner settings in verl's words."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers import AutoConfig
from verl.trainer.config import CheckpointConfig
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig, TrainingWorkerConfig
from verl.workers.config.engine import EngineConfig

from trainer.engines.deepspeed_config import DeepSpeedEngineConfig
from trainer.learner.spec import LearnerSpec
from trainer.settings import OptimizerSettings


def worker_config(spec: LearnerSpec) -> TrainingWorkerConfig:
    """verl's configuration of one training worker.

    Raises:
        ValueError: an engine argument is unknown, or a setting has no meaning on this device.
    """
    settings = spec.settings
    if settings.offload_optimizer and spec.device == "cpu":
        raise ValueError(
            "learner.offload_optimizer=true moves the optimizer from a GPU to main memory, where it is on CPU: set it to false."
        )
    targets = settings.lora_targets
    return TrainingWorkerConfig(
        model_type="language_model",
        model_config=HFModelConfig(
            path=spec.model_path,
            use_remove_padding=False,  # rows are packed, by trainer.engines.packed_logprobs
            enable_gradient_checkpointing=settings.gradient_checkpointing,
            lora_rank=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            target_modules=targets if isinstance(targets, str) else list(targets),
            override_config={"attn_implementation": "shared_prompt"},
        ),
        engine_config=_engine_config(spec),
        optimizer_config=optimizer_config(OptimizerSettings(), total_steps=1),
        checkpoint_config=CheckpointConfig(),
    )


def _engine_config(spec: LearnerSpec) -> EngineConfig:
    settings = spec.settings
    common: dict[str, Any] = {
        "strategy": settings.engine,
        "use_dynamic_bsz": True,
        "max_token_len_per_gpu": settings.micro_batch_tokens,
        "infer_max_token_len_per_gpu": settings.micro_batch_tokens,
        "optimizer_offload": settings.offload_optimizer,
        "seed": spec.seed,
    }
    if settings.engine == "deepspeed":
        return DeepSpeedEngineConfig(**common, zero_stage=settings.zero_stage, bf16=spec.precision == "bf16", extra=settings.engine_args)
    unknown = set(settings.engine_args) - {field.name for field in fields(FSDPEngineConfig)}
    if unknown:
        raise ValueError(f"learner.engine_args has {', '.join(sorted(unknown))}, which verl's FSDPEngineConfig does not know.")
    ours: dict[str, Any] = common | {
        "model_dtype": "fp32",
        "mixed_precision": {"param_dtype": spec.precision, "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
        "use_torch_compile": False,
        "use_no_sync_for_gradient_accumulation": False,  # else every rank holds the gradients of the whole model between micro-batches
    }
    return FSDPEngineConfig(**(ours | settings.engine_args))


def optimizer_config(settings: OptimizerSettings, total_steps: int) -> FSDPOptimizerConfig:
    """AdamW as verl builds it, with torch's fused step."""
    return FSDPOptimizerConfig(
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        clip_grad=settings.clip_grad,
        total_training_steps=total_steps,
        override_optimizer_config={"fused": True},
    )


def export_policy(folder: Path, model: HFModelConfig, weights: dict[str, torch.Tensor]) -> None:
    """Writes a Hugging Face folder that transformers and vLLM load, with the config, dtype and tokenizer of the model it came from."""
    config = AutoConfig.from_pretrained(model.path)
    dtype = getattr(config, "dtype", None) or torch.float32
    config.save_pretrained(folder)
    save_torch_state_dict({name: _alone(tensor.to(dtype)) for name, tensor in weights.items()}, folder)
    model.tokenizer.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous tensor with memory of its own: one gathered from uneven shards is a part of a larger one, which no file takes."""
    return (
        tensor.contiguous() if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone(memory_format=torch.contiguous_format)
    )
