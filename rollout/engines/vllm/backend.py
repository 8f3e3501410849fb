"""vLLM behind an engine's actor; ``rollout/engines/vllm/worker.py`` is what runs in vLLM's own processes. No other file imports vLLM.

The same code serves GPU and CPU.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rollout.engines.interface import EngineSpec, Stretch
from rollout.engines.ray_engine import RayEngine
from rollout.engines.vllm.arguments import engine_args, engine_environment
from rollout.engines.vllm.shared_memory import in_memory
from rollout.weights.buckets import TensorSum, WeightsMismatchError
from rollout.weights.link import Address


def vllm_engine(spec: EngineSpec, *, place: Mapping[str, Any] | None = None, say: Callable[[str], None] | None = None) -> RayEngine:
    """The engine ``vllm``."""
    return RayEngine(spec, VLLMBackend, place=place, say=say)


class VLLMBackend:
    """``rollout.engines.interface.EngineBackend`` by vLLM's AsyncLLM."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._llm: Any = None
        self._requests = 0

    @staticmethod
    def environment(spec: EngineSpec) -> dict[str, str]:
        """See ``EngineBackend``."""
        return engine_environment(spec.device, spec.deterministic)

    async def load(self, policy: Path) -> None:
        """See ``EngineBackend``."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        spec = self._spec
        args = engine_args(policy, spec.model, spec.rollout, spec.device, spec.deterministic)
        # As vLLM's class for offline inference, whose limits suit the card; AsyncLLM's own default has limits for tests.
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**args), usage_context=UsageContext.LLM_CLASS)
        await self._llm.collective_rpc("end_with_actor", args=(os.getpid(),))
        await self._llm.collective_rpc("verify_loaded", args=(spec.rollout.verify_loaded,))

    async def limits(self) -> str:
        """See ``EngineBackend``."""
        config = self._llm.vllm_config
        scheduler, kept = config.scheduler_config, config.cache_config.kv_cache_size_tokens or 0
        dtype = str(config.model_config.dtype).removeprefix("torch.")
        steps = f"{scheduler.max_num_seqs:,} sequences and {scheduler.max_num_batched_tokens:,} tokens a step"
        return f"{steps}, keys and values of {kept:,} tokens, {dtype}"

    async def generate(self, token_ids: list[int], n: int, max_tokens: int, temperature: float, seed: int) -> list[Stretch]:
        """See ``EngineBackend``."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        greedy = temperature == 0.0
        params = SamplingParams(
            n=n,
            temperature=temperature,
            top_p=1.0 if greedy else self._spec.rollout.top_p,
            max_tokens=max_tokens,
            seed=None if greedy else seed,
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._requests += 1
        final = None
        async for output in self._llm.generate({"prompt_token_ids": token_ids}, params, f"r{self._requests}"):
            final = output
        assert final is not None
        return [stretch_of(output, final.num_cached_tokens or 0) for output in final.outputs]

    async def stop(self) -> None:
        """See ``EngineBackend``."""
        await self._llm.pause_generation(mode="abort", clear_cache=True)

    async def resume(self) -> None:
        """See ``EngineBackend``."""
        await self._llm.resume_generation()

    async def connect(self, address: Address, first: int) -> None:
        """See ``EngineBackend``."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        where = {"host": address.host, "port": address.port, "members": address.members, "first": first}
        await self._llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=where))

    async def begin_update(self) -> None:
        """See ``EngineBackend``."""
        await self._llm.start_weight_update()

    async def load_tensors(self, tensors: Sequence[TensorSum], payload: Any) -> None:
        """See ``EngineBackend``."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        with nullcontext("") if payload is None else in_memory(tensors, payload) as path:
            listed = [(one.name, one.dtype, list(one.shape), one.checksum) for one in tensors]
            await self._llm.update_weights(WeightTransferUpdateRequest(update_info={"path": path, "tensors": listed}))

    async def end_update(self) -> None:
        """See ``EngineBackend``."""
        await self._llm.finish_weight_update()

    async def held_digest(self) -> int:
        """See ``EngineBackend``."""
        held = set(await self._llm.collective_rpc("held_digest"))
        if len(held) != 1:
            raise WeightsMismatchError(f"The workers of an engine hold different weights: {sorted(held)}.")
        return held.pop()

    def shutdown(self) -> None:
        """See ``EngineBackend``."""
        if self._llm is not None:
            self._llm.shutdown()


def stretch_of(output: Any, cached_tokens: int) -> Stretch:
    """vLLM's CompletionOutput of one sequence, with log-probabilities."""
    tokens = list(output.token_ids)
    logprobs = [float(entry[token].logprob) for token, entry in zip(tokens, output.logprobs or [], strict=True)]
    end = None if output.finish_reason == "abort" else "stop" if output.finish_reason == "stop" else "length"
    return Stretch(tokens, logprobs, end, cached_tokens)
