"""A vLLM engine as a Ray actor; ``rollout/engine_worker.py`` is what runs in vLLM's own processes. No other file imports vLLM.

The same code serves GPU and CPU. Detokenisation is done here in bulk, not by vLLM token by token.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rollout.partial_completion import PartialCompletion
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings, context_tokens
from rollout.weights.buckets import Bucket, WeightsMismatchError
from rollout.weights.gate import WeightsGate
from rollout.weights.link import Address
from rollout.weights.shared_memory import in_memory

MAX_SEQUENCES = 256
"""Sequences that one CPU engine decodes at once."""
MAX_BATCHED_TOKENS = 8192
"""Tokens of one step on CPU: the prompts of a whole training step."""
CPU_BLOCK_TOKENS = 128
"""vLLM's unit of key-value memory on CPU."""
MAX_KV_CACHE_BYTES = 2 * 2**30


def engine_environment(device: str) -> dict[str, str]:
    """Environment variables of an engine's process, set before vLLM is imported."""
    shared = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    if device != "cpu":
        return shared
    return shared | {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",  # a kernel for each batch size: the default, 1024, fills for hundreds of steps
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
        "weight_transfer_config": {"backend": "buckets"},
        "worker_extension_cls": "rollout.engine_worker.WorkerExtension",
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
    """Samples completions and takes new weights; ``rollout.engine_handle`` wraps it in ``ray.remote``."""

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
        self._update = AsyncExitStack()
        self._mixed = ""
        self._requests = 0

    async def ready(self) -> list[int]:
        """Answers once the engine is up: process ids of this actor and of its children."""
        await self._llm.collective_rpc("end_with_actor", args=(os.getpid(),))
        await self._llm.collective_rpc("verify_loaded", args=(self._rollout.verify_loaded,))
        return [os.getpid(), *_children()]

    async def sample(self, prompt_ids: Sequence[int], n: int, temperature: float, seed: int) -> list[Completion]:
        """``n`` completions of one prompt with the log-probabilities of their tokens; temperature 0 is greedy.

        Where ``rollout.in_flight`` is ``continue``, an update of the weights stops them; each then goes on from its own tokens
        with the new weights, all keys and values computed anew, and a seed drawn from its own.

        Raises:
            ValueError: the prompt leaves no room for a response of ``max_response_tokens``.
            WeightsMismatchError: an update of the weights failed, so that the engine is of no use any more.
        """
        longest = context_tokens(self._model, self._rollout) - self._model.max_response_tokens
        if len(prompt_ids) > longest:
            raise ValueError(f"A prompt has {len(prompt_ids)} tokens, more than the {longest} of model.max_prompt_tokens and rounds.")
        prompt, greedy = list(prompt_ids), temperature == 0.0
        started = [PartialCompletion() for _ in range(1 if greedy else n)]
        async with self._gate.sampling():
            await self._extend(started, prompt, temperature, seed)
        while stopped := [one for one in started if one.finish_reason is None]:
            async with self._gate.sampling():
                seeds = [random.Random(f"{seed} {started.index(one)} {len(one.token_ids)}").getrandbits(31) for one in stopped]
                await asyncio.gather(*(self._extend([one], prompt, temperature, own) for one, own in zip(stopped, seeds, strict=True)))
        texts = self._tokenizer.batch_decode([one.token_ids for one in started], skip_special_tokens=True)
        completions = [one.completion(text) for one, text in zip(started, texts, strict=True)]
        return completions * n if greedy else completions

    async def _extend(self, partials: list[PartialCompletion], prompt: list[int], temperature: float, seed: int) -> None:
        """One request to vLLM: until completions of the same tokens so far end or are stopped, all under one version."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if self._mixed:
            raise WeightsMismatchError(self._mixed)
        greedy, so_far = temperature == 0.0, partials[0].token_ids
        params = SamplingParams(
            n=len(partials),
            temperature=temperature,
            top_p=1.0 if greedy else self._rollout.top_p,
            max_tokens=self._model.max_response_tokens - len(so_far),
            seed=None if greedy else seed,
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._requests += 1
        version, final = self._version, None
        async for output in self._llm.generate({"prompt_token_ids": prompt + so_far}, params, f"r{self._requests}"):
            final = output
        assert final is not None
        for partial, output in zip(partials, final.outputs, strict=True):
            partial.extend(output, version, cached_tokens=final.num_cached_tokens or 0)

    async def start_update(self, version: int) -> None:
        """Lets no request sample until ``finish_update``; those in flight end or stop first, as ``rollout.in_flight`` says.

        Keys and values of earlier weights are dropped.
        """
        if self._mixed:
            raise WeightsMismatchError(self._mixed)
        stop = self._pause if self._rollout.in_flight == "continue" else None
        await self._update.enter_async_context(self._gate.updating(stop))
        self._mixed = f"The update to weights version {version} did not end, the engine holds parts of it."
        await self._pause()
        await self._llm.start_weight_update()

    async def _pause(self) -> None:
        """Ends what vLLM generates, with the tokens so far, and empties its caches; it generates nothing until resumed."""
        await self._llm.pause_generation(mode="abort", clear_cache=True)

    async def connect(self, address: Address, first: int) -> None:
        """Joins every worker to the sender's link; ``first`` is the number of the first of them among its members."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        where = {"host": address.host, "port": address.port, "members": address.members, "first": first}
        await self._llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=where))

    async def load_bucket(self, bucket: Bucket) -> None:
        """Loads some tensors into every worker of this engine.

        Raises:
            Exception: as vLLM raises it, with the sentence of a WeightsMismatchError where a tensor is not the one that was sent.
        """
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        async with self._given_up_where_it_fails():
            payload = None if bucket.payload is None else await bucket.payload
            with nullcontext("") if payload is None else in_memory(bucket.tensors, payload) as path:
                tensors = [(one.name, one.dtype, list(one.shape), one.checksum) for one in bucket.tensors]
                await self._llm.update_weights(WeightTransferUpdateRequest(update_info={"path": path, "tensors": tensors}))

    async def finish_update(self, version: int) -> int:
        """Checks what was loaded and samples from it from now on; the digest of the weights that every worker holds."""
        async with self._given_up_where_it_fails():
            await self._llm.finish_weight_update()
            held = await self.held_digest()
        self._version, self._mixed = version, ""
        await self._llm.resume_generation()
        await self._update.aclose()
        return held

    async def held_digest(self) -> int:
        """Digest of the weights that every worker of this engine holds."""
        held = set(await self._llm.collective_rpc("held_digest"))
        if len(held) != 1:
            raise WeightsMismatchError(f"The workers of an engine hold different weights: {sorted(held)}.")
        return held.pop()

    @asynccontextmanager
    async def _given_up_where_it_fails(self) -> AsyncIterator[None]:
        """After an error requests are refused instead of kept waiting."""
        try:
            yield
        except BaseException:
            await self._update.aclose()
            raise

    async def close(self) -> None:
        """Ends the engine's own processes."""
        children = _children()
        self._llm.shutdown()
        await asyncio.sleep(0.2)
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process().children(recursive=True)]
