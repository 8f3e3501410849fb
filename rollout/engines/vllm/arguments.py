"""What a vLLM engine is started with: environment and arguments. Imports nothing of vLLM."""

from pathlib import Path
from typing import Any

from rollout.settings import ModelSettings, RolloutSettings, context_tokens

MAX_SEQUENCES = 256
"""Sequences that one CPU engine decodes at once."""
MAX_BATCHED_TOKENS = 8192
"""Tokens of one step on CPU: the prompts of a whole training step."""
CPU_BLOCK_TOKENS = 128
"""vLLM's unit of key-value memory on CPU."""
MAX_KV_CACHE_BYTES = 2 * 2**30
GPU_SHARE = 0.85
"""Of its GPU's memory that an engine takes; weights on their way and their checks need some of the rest."""


def engine_environment(device: str, deterministic: bool = False) -> dict[str, str]:
    """Environment variables of an engine's process, set before vLLM is imported."""
    shared = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    if device != "cpu":
        return shared | ({"VLLM_BATCH_INVARIANT": "1"} if deterministic else {})
    return shared | {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",  # a kernel for each batch size: the default, 1024, fills for hundreds of steps
        "TORCH_COMPILE_DISABLE": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else vLLM's CPU worker gets a process of its own beside the engine core's
    }


def engine_args(policy: Path, model: ModelSettings, rollout: RolloutSettings, device: str, deterministic: bool = False) -> dict[str, Any]:
    """Arguments of vLLM's AsyncEngineArgs; ``rollout.engine_args`` has the last word.

    Deterministic: nothing is reused from earlier requests, and, since the CPU has no batch-invariant kernels, one sequence at a time.
    """
    args: dict[str, Any] = {
        "model": str(policy),
        "dtype": model.dtype,
        "max_model_len": context_tokens(model, rollout),
        "tensor_parallel_size": rollout.tensor_parallel,
        "logprobs_mode": "processed_logprobs",
        "distributed_executor_backend": "uni" if rollout.tensor_parallel == 1 else "mp",
        "enable_prefix_caching": not deterministic,
        "disable_log_stats": True,
        "weight_transfer_config": {"backend": "buckets"},
        "worker_extension_cls": "rollout.engines.vllm.worker.WorkerExtension",
    }
    if device == "cpu":
        # A prompt split over two steps takes a seeded request's generator back by an offset, which CPU generators lack.
        args |= {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_seqs": 1 if deterministic else MAX_SEQUENCES}
        args["max_num_batched_tokens"] = max(MAX_BATCHED_TOKENS, args["max_model_len"])
        args["kv_cache_memory_bytes"] = kv_cache_bytes(policy, model, rollout)
    else:
        args["gpu_memory_utilization"] = GPU_SHARE
    return args | rollout.engine_args


def kv_cache_bytes(policy: Path, model: ModelSettings, rollout: RolloutSettings) -> int:
    """Bytes that keys and values of ``MAX_SEQUENCES`` full sequences take, at most ``MAX_KV_CACHE_BYTES``."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(policy)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_per_token = 2 * config.num_hidden_layers * heads * width * (4 if model.dtype == "float32" else 2)
    blocks = -(-context_tokens(model, rollout) // CPU_BLOCK_TOKENS)
    return min(MAX_SEQUENCES * blocks * CPU_BLOCK_TOKENS * bytes_per_token, MAX_KV_CACHE_BYTES)
