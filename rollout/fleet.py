"""All rollout engines of a run: dispatch, weights, and the replacement of an engine that died."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from rollout.engine import RemoteEngine, engine_environment
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings, context_tokens

TRIES = 3
"""Times that one request is sent before the run gives up."""
START_TIMEOUT_S = 600.0
"""Seconds for an engine to load a model and answer."""
CLOSE_TIMEOUT_S = 10.0
"""Seconds for an engine to end its processes before it is killed."""

T = TypeVar("T")


class Engine(Protocol):
    """One engine as the fleet sees it; ``RayEngine`` is the real one. Its failures are RayError."""

    async def ready(self) -> list[int]:
        """Process ids, once the engine is up."""
        ...

    async def sample(self, prompt_ids: list[int], n: int, temperature: float, seed: int) -> list[Completion]:
        """``n`` completions of one prompt."""
        ...

    async def publish(self, version: int, weights: Any) -> int:
        """Loads weights; the version that the engine holds afterwards."""
        ...

    async def close(self) -> None:
        """Ends the engine's own processes."""
        ...

    def kill(self) -> None:
        """Ends the engine at once."""
        ...


class RayEngine:
    """A ``PolicyEngine`` in a Ray actor of its own."""

    def __init__(self, policy: Path, model: ModelSettings, rollout: RolloutSettings, device: str) -> None:
        on_gpu = device == "cuda"
        actor = RemoteEngine.options(
            num_gpus=rollout.tensor_parallel if on_gpu else 0,
            num_cpus=1 if on_gpu else rollout.cpus_per_engine,
            max_concurrency=1000,
            max_restarts=0,  # the fleet restarts it, since a fresh engine lacks the current weights
            runtime_env={"env_vars": engine_environment(device)},
        )
        self._actor: Any = actor.remote(policy, model, rollout, device)

    async def ready(self) -> list[int]:
        """Process ids of the actor and its children, once the engine is up."""
        return await self._actor.ready.remote()

    async def sample(self, prompt_ids: list[int], n: int, temperature: float, seed: int) -> list[Completion]:
        """See ``PolicyEngine.sample``."""
        return await self._actor.sample.remote(prompt_ids, n, temperature, seed)

    async def publish(self, version: int, weights: Any) -> int:
        """See ``PolicyEngine.publish``; ``weights`` may be a Ray reference."""
        return await self._actor.publish.remote(version, weights)

    async def close(self) -> None:
        """See ``PolicyEngine.close``."""
        await self._actor.close.remote()

    def kill(self) -> None:
        """Kills the actor; the engine's processes notice and end."""
        ray.kill(self._actor)


class Fleet:
    """The driver's handle on N engines; ``rollout.collect.Sampler`` for the rest of the system."""

    def __init__(
        self, model: ModelSettings, rollout: RolloutSettings, policy: Path, *, device: str, engine: Callable[[], Engine] | None = None
    ) -> None:
        """
        Args:
            policy: Hugging Face folder or hub id that engines load.
            device: ``cuda`` or ``cpu``.
            engine: makes one engine; a ``RayEngine`` where left out.
        """
        self._rollout = rollout
        self._policy = policy
        self._model = model
        self._new_engine = engine or (lambda: RayEngine(policy, model, rollout, device))
        self._engines: list[Engine] = []
        self._load: list[int] = []
        self._repairing: list[asyncio.Lock] = []
        self._weights: Any = None
        self._version = 0

    @property
    def version(self) -> int:
        """Version of the weights that every engine holds; 0 before anything was published."""
        return self._version

    async def start(self) -> None:
        """Starts all engines at once.

        Raises:
            ValueError: the policy's positions do not suffice for the settings' prompts and responses.
            RuntimeError: one does not come up.
        """
        check_positions(self._policy, self._model, self._rollout)
        self._engines = [self._new_engine() for _ in range(self._rollout.engines)]
        self._load = [0] * len(self._engines)
        self._repairing = [asyncio.Lock() for _ in self._engines]
        await asyncio.gather(*(self._ready(engine) for engine in self._engines))

    async def _ready(self, engine: Engine) -> None:
        try:
            await asyncio.wait_for(engine.ready(), START_TIMEOUT_S)
        except (RayError, TimeoutError) as error:
            engine.kill()
            raise RuntimeError(f"A rollout engine for {self._policy} does not start: {_reason(error)}") from None

    async def sample(self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int) -> list[Completion]:
        """``n`` completions of one prompt from the least loaded engine; temperature 0 is greedy.

        An engine that dies or does not answer within ``request_timeout_s`` is replaced, gets the current weights, and
        the request is sent again.

        Raises:
            ValueError: the engine refuses the request, for example a prompt that is too long.
            RuntimeError: the request failed ``TRIES`` times, or no new engine starts.
        """
        return await self._send(self._least_loaded, n, lambda engine: engine.sample(list(prompt_ids), n, temperature, seed))

    async def publish(self, version: int, weights: Any) -> None:
        """Gives every engine new weights, all at once.

        Args:
            version: from now on part of every completion.
            weights: list of (HF name, tensor), or a Ray reference to one.

        Raises:
            RuntimeError: an engine holds another version afterwards, or fails ``TRIES`` times.
        """
        is_local = isinstance(weights, list) and ray.is_initialized()
        self._weights = ray.put(weights) if is_local else weights  # one copy for all engines
        self._version = version
        await asyncio.gather(*(self._publish_to(index) for index in range(len(self._engines))))

    async def _publish_to(self, index: int) -> None:
        version, weights = self._version, self._weights
        held = await self._send(lambda: index, 0, lambda engine: engine.publish(version, weights))
        if held != version:
            raise RuntimeError(f"Rollout engine {index} holds weights version {held} after version {version} was published.")

    async def _send(self, choose: Callable[[], int], load: int, call: Callable[[Engine], Awaitable[T]]) -> T:
        """Sends one request to the chosen engine, up to ``TRIES`` times with a new engine in between."""
        reason = ""
        for _ in range(TRIES):
            index = choose()
            engine = self._engines[index]
            self._load[index] += load
            try:
                async with asyncio.timeout(self._rollout.request_timeout_s):  # wait_for may lose a cancellation
                    return await call(engine)
            except RayTaskError as error:
                if isinstance(error.cause, ValueError):
                    raise error.cause from None  # the request is at fault, not the engine
                reason = _reason(error)
            except (RayError, TimeoutError) as error:
                reason = _reason(error)
            finally:
                self._load[index] -= load
            await self._replace(index, engine)
        raise RuntimeError(f"The rollout engines failed {TRIES} times at the same request, last with: {reason}")

    def _least_loaded(self) -> int:
        return min(range(len(self._engines)), key=lambda index: (self._repairing[index].locked(), self._load[index]))

    async def _replace(self, index: int, broken: Engine) -> None:
        """Starts a new engine in the place of ``broken``, once, whoever notices it first."""
        async with self._repairing[index]:
            if self._engines[index] is not broken:
                return
            broken.kill()
            engine = self._new_engine()
            try:
                await self._ready(engine)
                await self._catch_up(engine)
            except BaseException:
                engine.kill()
                raise
            self._engines[index] = engine  # only now: before, it would sample from the weights it started with

    async def _catch_up(self, engine: Engine) -> None:
        """Publishes the current weights, and newer ones that came meanwhile, to a fresh engine."""
        held = None  # not 0: a run may publish its first weights as version 0
        while self._weights is not None and held != self._version:
            try:
                held = await asyncio.wait_for(engine.publish(self._version, self._weights), self._rollout.request_timeout_s)
            except (RayError, TimeoutError) as error:
                raise RuntimeError(f"A new rollout engine does not take weights version {self._version}: {_reason(error)}") from None

    async def close(self) -> None:
        """Ends all engines and their processes; also in the middle of their start."""

        async def end(engine: Engine) -> None:
            with contextlib.suppress(RayError, TimeoutError):
                await asyncio.wait_for(engine.close(), CLOSE_TIMEOUT_S)
            engine.kill()

        await asyncio.gather(*(end(engine) for engine in self._engines))
        self._engines = []


def check_positions(policy: Path, model: ModelSettings, rollout: RolloutSettings) -> None:
    """Raises ValueError where an episode of full length has more tokens than the model has positions."""
    file = policy / "config.json"
    positions = json.loads(file.read_text()).get("max_position_embeddings") if file.is_file() else None
    wanted = context_tokens(model, rollout)
    if isinstance(positions, int) and wanted > positions:
        raise ValueError(
            f"model.max_prompt_tokens={model.max_prompt_tokens} and model.max_response_tokens={model.max_response_tokens} make {wanted} "
            f"tokens with rollout.rounds={rollout.rounds}, but the model at {policy} has {positions} positions: lower one of them."
        )


def _reason(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip() and not line.strip().startswith("For further information")]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no answer in time'}"[:400]
