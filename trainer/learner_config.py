"""Our learner settings in verl's words."""

import importlib.util
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from verl.trainer.config import CheckpointConfig
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig, TrainingWorkerConfig

from trainer.learner_spec import LearnerSpec
from trainer.settings import OptimizerSettings


def worker_config(spec: LearnerSpec) -> TrainingWorkerConfig:
    """verl's configuration of one training worker.

    On CPU everything is float32 and rows are padded; on a GPU the forward pass is bfloat16 over float32 weights and,
    where flash-attention is installed, rows are packed.
    """
    cpu = spec.device == "cpu"
    packed = not cpu and importlib.util.find_spec("flash_attn") is not None
    settings = spec.settings
    precision = "fp32" if cpu else "bf16"
    engine: dict[str, Any] = {
        "strategy": settings.engine,
        "model_dtype": "fp32",
        "mixed_precision": {"param_dtype": precision, "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
        "use_torch_compile": not cpu,
        "use_dynamic_bsz": True,
        "max_token_len_per_gpu": settings.micro_batch_tokens,
        "infer_max_token_len_per_gpu": settings.micro_batch_tokens,
        "seed": spec.seed,
    }
    unknown = set(settings.engine_args) - {field.name for field in fields(FSDPEngineConfig)}
    if unknown:
        raise ValueError(f"learner.engine_args has {', '.join(sorted(unknown))}, which verl's FSDPEngineConfig does not know.")
    return TrainingWorkerConfig(
        model_type="language_model",
        model_config=HFModelConfig(
            path=spec.model_path,
            use_remove_padding=packed,
            enable_gradient_checkpointing=settings.gradient_checkpointing,
            override_config={"attn_implementation": "shared_prompt" if cpu else "flash_attention_2" if packed else "sdpa"},
        ),
        engine_config=FSDPEngineConfig(**(engine | settings.engine_args)),
        optimizer_config=optimizer_config(OptimizerSettings(), total_steps=1),
        checkpoint_config=CheckpointConfig(),
    )


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
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(config, dtype=dtype)
    shell.save_pretrained(folder, state_dict={name: tensor.to(dtype) for name, tensor in weights.items()})
    model.tokenizer.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
