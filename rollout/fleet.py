"""All rollout engines of a run: dispatch, weights, and the replacement of an engine that died."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from rollout.engine import RemoteEngine, engine_environment
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings

TRIES = 3
"""Times that one request is sent before the run gives up."""
START_TIMEOUT_S = 600.0
"""Seconds for an engine to load a model and answer."""


class Fleet:
    """The driver's handle on N engine actors; ``rollout.collect.Sampler`` for the rest of the system."""

    def __init__(self, model: ModelSettings, rollout: RolloutSettings, policy: Path, *, device: str) -> None:
        self._model = model
        self._rollout = rollout
        self._policy = policy
        self._device = device
        self._engines: list[Any] = []
        self._load: list[int] = []
        self._repairing: list[asyncio.Lock] = []
        self._weights: Any = None
        self.version = 0
        """Version of the weights that every engine holds."""

    async def start(self) -> None:
        """Starts all engines at once. Raises RuntimeError where one does not come up."""
        self._engines = [self._actor() for _ in range(self._rollout.engines)]
        self._load = [0] * len(self._engines)
        self._repairing = [asyncio.Lock() for _ in self._engines]
        await asyncio.gather(*(self._ready(engine) for engine in self._engines))

    def _actor(self) -> Any:
        gpus = self._rollout.tensor_parallel if self._device == "cuda" else 0
        cpus = 1 if self._device == "cuda" else self._rollout.cpus_per_engine
        options = {"num_gpus": gpus, "num_cpus": cpus, "max_concurrency": 1000, "max_restarts": 0}
        environment = {"env_vars": engine_environment(self._device)}
        return RemoteEngine.options(runtime_env=environment, **options).remote(self._policy, self._model, self._rollout, self._device)

    async def _ready(self, engine: Any) -> None:
        try:
            await asyncio.wait_for(_awaited(engine.ready.remote()), START_TIMEOUT_S)
        except (RayError, TimeoutError) as error:
            raise RuntimeError(f"A rollout engine for {self._policy} does not start: {_reason(error)}") from None

    async def sample(self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int) -> list[Completion]:
        """``n`` completions of one prompt from the least loaded engine.

        An engine that dies or does not answer within ``request_timeout_s`` is replaced, gets the current weights, and
        the request is sent again.

        Raises:
            RuntimeError: the request failed ``TRIES`` times.
        """
        reason = ""
        for _ in range(TRIES):
            index = min(range(len(self._engines)), key=lambda i: self._load[i])
            engine = self._engines[index]
            self._load[index] += 1
            try:
                call = engine.sample.remote(list(prompt_ids), n, temperature, seed)
                return await asyncio.wait_for(_awaited(call), self._rollout.request_timeout_s)
            except (RayError, TimeoutError) as error:
                reason = _reason(error)
                await self._replace(index, engine)
            finally:
                self._load[index] -= 1
        raise RuntimeError(f"The rollout engines failed {TRIES} times at the same request, last with: {reason}")

    async def publish(self, version: int, weights: Any) -> None:
        """Gives every engine new weights, all at once.

        Args:
            version: from now on part of every completion.
            weights: list of (HF name, tensor), or a Ray reference to one.

        Raises:
            RuntimeError: an engine holds another version afterwards.
        """
        self._weights = weights if isinstance(weights, ray.ObjectRef) else ray.put(weights)
        self.version = version
        await asyncio.gather(*(self._publish_to(index) for index in range(len(self._engines))))

    async def _publish_to(self, index: int) -> None:
        engine = self._engines[index]
        try:
            held = await asyncio.wait_for(_awaited(engine.publish.remote(self.version, self._weights)), self._rollout.request_timeout_s)
        except (RayError, TimeoutError):
            await self._replace(index, engine)
            return
        if held != self.version:
            raise RuntimeError(f"Rollout engine {index} holds weights version {held} after version {self.version} was published.")

    async def _replace(self, index: int, broken: Any) -> None:
        """Starts a new engine in the place of ``broken``, once, whoever notices it first."""
        async with self._repairing[index]:
            if self._engines[index] is not broken:
                return
            ray.kill(broken)
            engine = self._actor()
            await self._ready(engine)
            if self._weights is not None:
                await _awaited(engine.publish.remote(self.version, self._weights))
            self._engines[index] = engine

    async def close(self) -> None:
        """Ends all engines and their processes."""

        async def end(engine: Any) -> None:
            try:
                await asyncio.wait_for(_awaited(engine.close.remote()), 10)
            except (RayError, TimeoutError):
                pass
            ray.kill(engine)

        await asyncio.gather(*(end(engine) for engine in self._engines))
        self._engines = []


async def _awaited(reference: Any) -> Any:
    return await reference


def _reason(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no answer in time'}"[:400]
