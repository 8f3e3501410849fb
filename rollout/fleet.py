"""All rollout engines of a run: dispatch, weights, and the replacement of an engine that died."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.exceptions import RayError, RayTaskError

from rollout.engine_handle import Engine, RayEngine
from rollout.health import EngineHealth, EngineLedger
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings, context_tokens
from rollout.weights.delivery import reason
from rollout.weights.publishing import Published, Update
from rollout.weights.source import HeldWeights, WeightsGoneError

TRIES = 3
"""Times that one request is sent before the run gives up."""
START_TIMEOUT_S = 600.0
"""Seconds for an engine to load a model and answer."""
CLOSE_TIMEOUT_S = 10.0
"""Seconds for an engine to end its processes before it is killed."""
STICKY_LEAD = 32
"""Sequences that a request's own engine may have in flight beyond the least loaded one before the request goes elsewhere."""


class Fleet:
    """The driver's handle on N engines; ``rollout.collect.Sampler`` for the rest of the system."""

    def __init__(
        self, model: ModelSettings, rollout: RolloutSettings, policy: Path, *, device: str, engine: Callable[[int], Engine] | None = None
    ) -> None:
        """
        Args:
            policy: Hugging Face folder or hub id that engines load.
            device: ``cuda`` or ``cpu``.
            engine: makes the engine with a number, also in place of one that died; a ``RayEngine`` anywhere where left out.
        """
        self._rollout = rollout
        self._policy = policy
        self._model = model
        self._new_engine = engine or (lambda index: RayEngine(policy, model, rollout, device))
        self._linked = rollout.weights_via == "link" or (rollout.weights_via == "auto" and device == "cuda")
        self._on_link: tuple[object, list[Engine]] = (None, [])
        """The sender that holds a link, and the engines that it reaches."""
        self._engines: list[Engine] = []
        self._ledgers: list[EngineLedger] = []
        self._repairing: list[asyncio.Lock] = []
        self._publishing = asyncio.Lock()
        self._update: Update | None = None
        self._sendable = asyncio.Event()
        """Set while a new engine can get the weights that it needs."""
        self._sendable.set()
        self._lost = ""
        """Why there are no weights to send, after an update that failed."""
        self._version = 0

    @property
    def version(self) -> int:
        """Version of the weights that every engine holds or is about to get; 0 before anything was published."""
        return self._version

    def health(self) -> list[EngineHealth]:
        """What each engine does and did since the last update of the weights."""
        return [ledger.health() for ledger in self._ledgers]

    async def start(self) -> None:
        """Starts all engines at once.

        Raises:
            ValueError: the policy's positions do not suffice for the settings' prompts and responses.
            RuntimeError: one does not come up.
        """
        check_positions(self._policy, self._model, self._rollout)
        self._engines = [self._new_engine(index) for index in range(self._rollout.engines)]
        self._ledgers = [EngineLedger() for _ in self._engines]
        self._repairing = [asyncio.Lock() for _ in self._engines]
        await asyncio.gather(*(self._ready(engine) for engine in self._engines))

    async def _ready(self, engine: Engine) -> None:
        try:
            await asyncio.wait_for(engine.ready(), START_TIMEOUT_S)
        except (RayError, TimeoutError) as error:
            engine.kill()
            raise RuntimeError(f"A rollout engine for {self._policy} does not start: {reason(error)}") from None

    async def sample(
        self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int, sticky: int | None = None
    ) -> list[Completion]:
        """``n`` completions of one prompt; temperature 0 is greedy.

        An engine that dies or does not answer within ``request_timeout_s`` is replaced, gets the current weights, and
        the request is sent again.

        Args:
            sticky: requests with the same number go to the same engine, which still has the keys and values of what their prompts
                share: round k of an episode then costs its new tokens alone. Left out, under repair or far behind the others: the
                least loaded engine.

        Raises:
            ValueError: the engine refuses the request, for example a prompt that is too long.
            RuntimeError: the request failed ``TRIES`` times, or no new engine starts.
        """
        failure = ""
        for _ in range(TRIES):
            index = self._choose(sticky)
            engine, ledger = self._engines[index], self._ledgers[index]
            entry = ledger.begin(n)
            try:
                async with asyncio.timeout(self._rollout.request_timeout_s):  # wait_for may lose a cancellation
                    completions = await engine.sample(list(prompt_ids), n, temperature, seed)
                ledger.count(len(prompt_ids), completions)
                return completions
            except RayTaskError as error:
                if isinstance(error.cause, ValueError):
                    raise error.cause from None  # the request is at fault, not the engine
                failure = reason(error)
            except (RayError, TimeoutError) as error:
                failure = reason(error)
            finally:
                ledger.end(entry)
            await self._replace(index, engine)
        raise RuntimeError(f"The rollout engines failed {TRIES} times at the same request, last with: {failure}")

    def _choose(self, sticky: int | None) -> int:
        """The least loaded engine, or the request's own one."""
        indices = range(len(self._engines))
        least = min(indices, key=lambda index: (self._repairing[index].locked(), self._ledgers[index].in_flight))
        if sticky is None:
            return least
        own = sticky % len(self._engines)
        lead = self._ledgers[own].in_flight - self._ledgers[least].in_flight
        return least if self._repairing[own].locked() or lead > STICKY_LEAD else own

    async def publish(self, version: int, weights: Any) -> Published:
        """Gives every engine new weights, all at once; an engine that fails meanwhile is replaced by one that has them.

        Args:
            version: from now on part of every completion.
            weights: a ``WeightsSource``, or a list of (Hugging Face name, tensor).

        Raises:
            RuntimeError: an engine fails and so does the one in its place.
        """
        source = HeldWeights(weights) if isinstance(weights, list) else weights
        rollout = self._rollout
        async with self._publishing:
            start = time.monotonic()
            self._sendable.clear()
            self._update = None  # lets the last version's buckets go before the next ones come
            self._version = version
            update = Update(
                version,
                source,
                max_bytes=int(rollout.publish_bucket_mib * 2**20),
                keep=rollout.weights_kept == "copy",
                timeout_s=rollout.request_timeout_s,
                workers=rollout.tensor_parallel if self._linked else None,
            )
            engines = list(self._engines)
            link = (source.sender(), engines) if self._linked else (None, engines)
            try:
                results = await update.send(engines, joined=link == self._on_link)
                self._on_link = link if all(isinstance(result, float) for result in results) else (None, [])
                self._update, self._lost = update, ""
            except BaseException as error:
                self._lost = f"Weights version {version} did not arrive: {reason(error)}"
                raise
            finally:
                self._sendable.set()
            await asyncio.gather(
                *(self._settle(index, engines[index], result) for index, result in enumerate(results)),
            )
        seconds = tuple(result for result in results if isinstance(result, float))
        failures = tuple(result for result in results if isinstance(result, str))
        return Published(version, update.bytes, update.buckets, time.monotonic() - start, seconds, failures)

    async def _settle(self, index: int, engine: Engine, result: float | str) -> None:
        """After an update: the engine in this place holds the new weights, whichever it is."""
        if isinstance(result, str):
            await self._replace(index, engine)
        elif self._engines[index] is engine:
            self._ledgers[index].updated(self._version)

    async def _replace(self, index: int, broken: Engine) -> None:
        """Starts a new engine in the place of ``broken``, once, whoever notices it first."""
        async with self._repairing[index]:
            if self._engines[index] is not broken:
                return
            broken.kill()
            engine = self._new_engine(index)
            try:
                await self._ready(engine)
                held = await self._catch_up(engine)
            except BaseException:
                engine.kill()
                raise
            self._engines[index] = engine  # only now: before, it would sample from the weights it started with
            self._ledgers[index].replaced(held)

    async def _catch_up(self, engine: Engine) -> int:
        """Sends the current weights, and newer ones that came meanwhile, to a fresh engine; the version that it holds then."""
        held = None  # not 0: a run may publish its first weights as version 0
        while True:
            await self._sendable.wait()
            if self._lost:
                raise RuntimeError(self._lost)
            update = self._update
            if update is None or held == update.version:
                return held or 0
            try:
                self._on_link = (None, [])  # over a link, this engine gets one of its own
                await update.resend(engine)
                held = update.version
            except WeightsGoneError:
                if self._update is update:
                    self._sendable.clear()  # the next update brings it up

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
