"""The half of a rollout engine that is the same whatever samples: versions, updates of the weights, completions that they stop.

Detokenisation is done here in bulk, not by the backend token by token.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from rollout.engines.gate import WeightsGate
from rollout.engines.interface import EngineBackend, EngineSpec
from rollout.engines.partial_completion import PartialCompletion
from rollout.policy_files import local_copy
from rollout.records import Completion
from rollout.settings import context_tokens
from rollout.weights.buckets import Bucket, WeightsMismatchError
from rollout.weights.link import Address


class PolicyEngine:
    """Samples completions and takes new weights; ``rollout.engines.ray_engine`` wraps it in ``ray.remote``."""

    def __init__(self, backend: type[EngineBackend], spec: EngineSpec) -> None:
        os.environ.update(backend.environment(spec))
        self._spec = spec
        self._backend = backend(spec)
        self._loading = asyncio.Lock()
        self._tokenizer: Any = None
        self._version = 0
        self._gate = WeightsGate()
        self._update = AsyncExitStack()
        self._mixed = ""
        """Why the weights are of no use; empty while they are of one version."""

    async def ready(self) -> list[int]:
        """Answers once the engine is up: process ids of this actor and of its children."""
        async with self._loading:
            if self._tokenizer is None:
                from transformers import AutoTokenizer

                policy = local_copy(self._spec.policy)
                await self._backend.load(policy)
                self._tokenizer = AutoTokenizer.from_pretrained(policy)
        return [os.getpid(), *_children()]

    async def limits(self) -> str:
        """What the engine that is up does at once, in words."""
        return await self._backend.limits()

    async def sample(self, prompt_ids: Sequence[int], n: int, temperature: float, seed: int) -> list[Completion]:
        """``n`` completions of one prompt with the log-probabilities of their tokens; temperature 0 is greedy.

        Where ``rollout.in_flight`` is ``continue``, an update of the weights stops them; each then goes on from its own tokens
        with the new weights, all keys and values computed anew, and a seed drawn from its own.

        Raises:
            ValueError: the prompt leaves no room for a response of ``max_response_tokens``.
            WeightsMismatchError: an update of the weights failed, so that the engine is of no use any more.
        """
        longest = context_tokens(self._spec.model, self._spec.rollout) - self._spec.model.max_response_tokens
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
        """One request to the backend: until completions of the same tokens so far end or are stopped, all under one version."""
        if self._mixed:
            raise WeightsMismatchError(self._mixed)
        so_far, version = partials[0].token_ids, self._version
        left = self._spec.model.max_response_tokens - len(so_far)
        stretches = await self._backend.generate(prompt + so_far, len(partials), left, temperature, seed)
        for partial, stretch in zip(partials, stretches, strict=True):
            partial.extend(stretch, version)

    async def connect(self, address: Address, first: int) -> None:
        """See ``EngineBackend.connect``."""
        await self._backend.connect(address, first)

    async def start_update(self, version: int) -> None:
        """Lets no request sample until ``finish_update``; those in flight end or stop first, as ``rollout.in_flight`` says.

        Keys and values of earlier weights are dropped.
        """
        if self._mixed:
            raise WeightsMismatchError(self._mixed)
        stop = self._backend.stop if self._spec.rollout.in_flight == "continue" else None
        await self._update.enter_async_context(self._gate.updating(stop))
        self._mixed = f"The update to weights version {version} did not end, the engine holds parts of it."
        await self._backend.stop()
        await self._backend.begin_update()

    async def load_bucket(self, bucket: Bucket) -> None:
        """Loads some tensors into every worker of this engine.

        Raises:
            Exception: the backend's, with the sentence of a WeightsMismatchError where a tensor is not the one that was sent.
        """
        async with self._given_up_where_it_fails():
            await self._backend.load_tensors(bucket.tensors, None if bucket.payload is None else await bucket.payload)

    async def finish_update(self, version: int) -> int:
        """Checks what was loaded and samples from it from now on; the digest of the weights that every worker holds."""
        async with self._given_up_where_it_fails():
            await self._backend.end_update()
            held = await self._backend.held_digest()
        self._version, self._mixed = version, ""
        await self._backend.resume()
        await self._update.aclose()
        return held

    async def held_digest(self) -> int:
        """See ``EngineBackend.held_digest``."""
        return await self._backend.held_digest()

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
        self._backend.shutdown()
        await asyncio.sleep(0.2)
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process().children(recursive=True)]
