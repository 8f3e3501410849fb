"""A vLLM engine as a Ray actor: the only file that imports vLLM.

The same code serves GPU and CPU. Detokenisation is done here in bulk, not by vLLM token by token.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray

from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings, context_tokens
from rollout.weights_gate import WeightsGate

MAX_SEQUENCES = 256
"""Sequences that one CPU engine decodes at once."""
MAX_BATCHED_TOKENS = 8192
"""Tokens of one step on CPU: the prompts of a whole training step."""
CPU_BLOCK_TOKENS = 128
"""vLLM's unit of key-value memory on CPU."""
MAX_KV_CACHE_BYTES = 2 * 2**30
WATCH = "actor-watch"
WATCH_EVERY_S = 1.0
"""How often an engine's process looks whether its actor is still there."""


def engine_environment(device: str) -> dict[str, str]:
    """Environment variables of an engine's process, set before vLLM is imported."""
    shared = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}
    if device != "cpu":
        return shared
    return shared | {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "TORCH_COMPILE_DISABLE": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the model runs in the engine's process: one process less for each engine
    }


def engine_args(policy: Path, model: ModelSettings, rollout: RolloutSettings, device: str) -> dict[str, Any]:
    """Arguments of vLLM's AsyncEngineArgs; ``rollout.engine_args`` has the last word."""
    args: dict[str, Any] = {
        "model": str(policy),
        "dtype": model.dtype,
        "max_model_len": context_tokens(model, rollout),
        "tensor_parallel_size": rollout.tensor_parallel,
        "logprobs_mode": "processed_logprobs",
        "distributed_executor_backend": "uni" if rollout.tensor_parallel == 1 else "mp",
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if device == "cpu":
        # A prompt split over two steps takes a seeded request's generator back by an offset, which CPU generators lack.
        args |= {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_seqs": MAX_SEQUENCES}
        args["max_num_batched_tokens"] = max(MAX_BATCHED_TOKENS, args["max_model_len"])
        args["kv_cache_memory_bytes"] = kv_cache_bytes(policy, model, rollout)
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


class PolicyEngine:
    """Samples completions and takes new weights; ``rollout.fleet`` wraps it in ``ray.remote``."""

    def __init__(self, policy: Path, model: ModelSettings, rollout: RolloutSettings, device: str) -> None:
        os.environ.update(engine_environment(device))
        from transformers import AutoTokenizer
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._model = model
        self._rollout = rollout
        self._tokenizer = AutoTokenizer.from_pretrained(policy)
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**engine_args(policy, model, rollout, device)))
        self._version = 0
        self._gate = WeightsGate()
        self._requests = 0

    async def ready(self) -> list[int]:
        """Answers once the engine is up: process ids of this actor and of its children."""
        watch: Any = partial(_end_with, actor=os.getpid())
        await self._llm.collective_rpc(watch)
        return [os.getpid(), *_children()]

    async def sample(self, prompt_ids: Sequence[int], n: int, temperature: float, seed: int) -> list[Completion]:
        """``n`` completions of one prompt with the log-probabilities of their tokens; temperature 0 is greedy.

        Raises:
            ValueError: the prompt leaves no room for a response of ``max_response_tokens``.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        greedy = temperature == 0.0
        params = SamplingParams(
            n=1 if greedy else n,
            temperature=temperature,
            top_p=1.0 if greedy else self._rollout.top_p,
            max_tokens=self._model.max_response_tokens,
            seed=None if greedy else seed,
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        longest = context_tokens(self._model, self._rollout) - self._model.max_response_tokens
        if len(prompt_ids) > longest:
            raise ValueError(f"A prompt has {len(prompt_ids)} tokens, more than the {longest} of model.max_prompt_tokens and rounds.")
        self._requests += 1
        final = None
        async with self._gate.sampling():
            version = self._version
            async for output in self._llm.generate({"prompt_token_ids": list(prompt_ids)}, params, f"r{self._requests}"):
                final = output
        assert final is not None
        texts = self._tokenizer.batch_decode([list(one.token_ids) for one in final.outputs], skip_special_tokens=True)
        completions = [_completion(one, text, version) for one, text in zip(final.outputs, texts, strict=True)]
        return completions * n if greedy else completions

    async def publish(self, version: int, weights: Sequence[tuple[str, Any]]) -> int:
        """Loads ``weights`` (HF names) into the running engine and forgets the prefixes computed with the old ones.

        Requests in flight end with the old weights first.

        Raises:
            RuntimeError: the old prefixes cannot be dropped, so that the engine is of no use any more.
        """
        # A function travels to the engine's process by pickle, tensors and all; plain arguments would lose the tensors' type.
        reload: Any = partial(_reload, weights=[(name, tensor.clone()) for name, tensor in weights])
        async with self._gate.updating():
            await self._llm.collective_rpc(reload)
            if not await self._llm.reset_prefix_cache():
                raise RuntimeError(f"vLLM keeps prefixes computed with version {self._version} while version {version} is published.")
            self._version = version
        return version

    async def close(self) -> None:
        """Ends the engine's own processes."""
        children = _children()
        self._llm.shutdown()
        await asyncio.sleep(0.2)
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _end_with(worker: Any, *, actor: int) -> None:
    """Runs in the engine's worker process, which would outlive an actor that was killed: ends it with its actor."""
    import psutil

    if any(thread.name == WATCH for thread in threading.enumerate()):
        return
    process = psutil.Process(actor)

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(WATCH_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, name=WATCH, daemon=True).start()


def _reload(worker: Any, *, weights: list[tuple[str, Any]]) -> None:
    """Runs in the engine's worker process.

    Embeddings are packed once more afterwards: on CPU the head multiplies with a packed copy, which a reload leaves
    as it was where head and embedding are tied.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    worker.reload_weights(weights_iterator=iter(weights))
    for module in worker.get_model().modules():
        method = getattr(module, "quant_method", None)
        if isinstance(method, UnquantizedEmbeddingMethod):
            method.process_weights_after_loading(module)


def _completion(output: Any, text: str, version: int) -> Completion:
    logprobs: Sequence[Mapping[int, Any]] = output.logprobs
    ids = tuple(output.token_ids)
    values = tuple(float(entry[token].logprob) for token, entry in zip(ids, logprobs, strict=True))
    return Completion(text, ids, values, version, "stop" if output.finish_reason == "stop" else "length")


def _children() -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process().children(recursive=True)]


RemoteEngine = ray.remote(PolicyEngine)
