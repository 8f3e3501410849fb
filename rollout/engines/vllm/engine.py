"""A vLLM engine as a Ray actor; ``rollout/engines/vllm/worker.py`` is what runs in vLLM's own processes. No other file imports vLLM.

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

from rollout.engines.vllm.arguments import engine_args, engine_environment
from rollout.engines.vllm.gate import WeightsGate
from rollout.engines.vllm.partial_completion import PartialCompletion
from rollout.engines.vllm.shared_memory import in_memory
from rollout.policy_files import local_copy
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings, context_tokens
from rollout.weights.buckets import Bucket, WeightsMismatchError
from rollout.weights.link import Address


class PolicyEngine:
    """Samples completions and takes new weights; ``rollout.fleet.ray_engine`` wraps it in ``ray.remote``."""

    def __init__(
        self, policy: str | Path, model: ModelSettings, rollout: RolloutSettings, device: str, deterministic: bool = False
    ) -> None:
        os.environ.update(engine_environment(device, deterministic))
        self._policy = policy
        self._model = model
        self._rollout = rollout
        self._device = device
        self._deterministic = deterministic
        self._loading = asyncio.Lock()
        self._llm: Any = None
        self._tokenizer: Any = None
        self._version = 0
        self._gate = WeightsGate()
        self._update = AsyncExitStack()
        self._mixed = ""
        self._requests = 0

    async def _load(self) -> None:
        """Loads the model, once."""
        async with self._loading:
            if self._llm is not None:
                return
            from transformers import AutoTokenizer
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.usage.usage_lib import UsageContext
            from vllm.v1.engine.async_llm import AsyncLLM

            policy = local_copy(self._policy)
            self._tokenizer = AutoTokenizer.from_pretrained(policy)
            args = engine_args(policy, self._model, self._rollout, self._device, self._deterministic)
            # As vLLM's class for offline inference, whose limits suit the card; AsyncLLM's own default has limits for tests.
            self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**args), usage_context=UsageContext.LLM_CLASS)

    async def ready(self) -> list[int]:
        """Answers once the engine is up: process ids of this actor and of its children."""
        await self._load()
        await self._llm.collective_rpc("end_with_actor", args=(os.getpid(),))
        await self._llm.collective_rpc("verify_loaded", args=(self._rollout.verify_loaded,))
        return [os.getpid(), *_children()]

    async def limits(self) -> str:
        """What the engine that is up does at once, in words."""
        config = self._llm.vllm_config
        scheduler, kept = config.scheduler_config, config.cache_config.kv_cache_size_tokens or 0
        dtype = str(config.model_config.dtype).removeprefix("torch.")
        steps = f"{scheduler.max_num_seqs:,} sequences and {scheduler.max_num_batched_tokens:,} tokens a step"
        return f"{steps}, keys and values of {kept:,} tokens, {dtype}"

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
        if self._llm is not None:
            self._llm.shutdown()
        await asyncio.sleep(0.2)
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process().children(recursive=True)]
