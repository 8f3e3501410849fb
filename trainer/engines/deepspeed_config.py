"""DeepSpeed's configuration, in verl's and in DeepSpeed's words; imports nothing of DeepSpeed."""

from dataclasses import dataclass, field
from typing import Any

from verl.workers.config.engine import EngineConfig

REDUCE_BUCKET = 200_000_000
"""Gradient elements that travel together, where the model has as many; DeepSpeed allocates a buffer of that size."""


@dataclass
class DeepSpeedEngineConfig(EngineConfig):
    """What ``trainer.engines.deepspeed`` needs beside verl's common settings."""

    strategy: str = "deepspeed"
    zero_stage: int = 2
    bf16: bool = False
    """Compute in bfloat16 over float32 master weights, else all in float32."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Entries of DeepSpeed's own configuration that win over ours."""


def make_deepspeed_config(config: DeepSpeedEngineConfig, clip_grad: float, parameters: int) -> dict[str, Any]:
    """The dict that ``deepspeed.initialize`` takes.

    Gradient accumulation is ours (an engine is told which micro-batch is the last), so DeepSpeed is set to one.

    Args:
        clip_grad: largest gradient norm.
        parameters: trainable elements of the model.
    """
    bucket = min(REDUCE_BUCKET, max(parameters, 1))
    zero: dict[str, Any] = {
        "stage": config.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "overlap_comm": False,
        # Nothing stays gathered between two passes, so that weights can be read and exchanged shard by shard.
        "stage3_param_persistence_threshold": 0,
    }
    if config.optimizer_offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    ours: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_grad,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        # Offloaded AdamW is torch's, which is vectorised too; DeepSpeed's own would be compiled here, at run time.
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.bf16, "check_grad_overflow": True},
        "data_types": {"grad_accum_dtype": "fp32"},
    }
    return _merge(ours, config.extra)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` wins, nested dicts are merged."""
    merged = dict(base)
    for name, value in over.items():
        known = merged.get(name)
        merged[name] = _merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged
