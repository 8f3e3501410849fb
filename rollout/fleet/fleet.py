"""All rollout engines of a run: which one a request goes to, and new weights for all."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.exceptions import RayError, RayTaskError

from rollout.engines.interface import Engine, EngineSpec, make_engine
from rollout.failures import LESS_MEMORY, MemoryDeaths
from rollout.fleet.health import EngineHealth
from rollout.fleet.publishing import EngineRefusedError, Published, Update
from rollout.fleet.slot import EngineSlot
from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings
from rollout.weights.source import HeldWeights
from sandbox.supervise import reason
from workflow.outcome import RunFailedError

TRIES = 3
"""Times that one request is sent before the run gives up."""
CLOSE_TIMEOUT_S = 10.0
"""Seconds for an engine to end its processes before it is killed."""
STICKY_LEAD = 32
"""Sequences that a request's own engine may have in flight beyond the least loaded one before the request goes elsewhere."""


class Fleet:
    """The driver's handle on N engines; ``rollout.groups.collect.Sampler`` for the rest of the system."""

    def __init__(
        self,
        model: ModelSettings,
        rollout: RolloutSettings,
        policy: Path,
        *,
        device: str,
        engine: Callable[[int], Engine] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """
        Args:
            policy: Hugging Face folder or hub id that engines load.
            device: ``cuda`` or ``cpu``.
            engine: makes the engine with a number, also in place of one that died; left out: that of
                ``rollout.engine``, anywhere.
            say: prints one line.
        """
        self._rollout = rollout
        self._new_engine = engine or (lambda index: make_engine(EngineSpec(policy, model, rollout, device)))
        self._say = say
        self._linked = rollout.weights_via == "link" or (rollout.weights_via == "auto" and device == "cuda")
        self._on_link: tuple[object, list[Engine]] = (None, [])
        """The sender that holds a link, and the engines that it reaches."""
        self._slots: list[EngineSlot] = []
        self._publishing = asyncio.Lock()
        self._update: Update | None = None
        self._sendable = asyncio.Event()
        """Set while a new engine can get the weights that it needs."""
        self._sendable.set()
        self._version = 0

    @property
    def version(self) -> int:
        """Version of the weights that every engine holds or is about to get; 0 before anything was published."""
        return self._version

    def health(self) -> list[EngineHealth]:
        """What each engine does and did since the last update of the weights."""
        return [slot.ledger.health() for slot in self._slots]

    async def start(self) -> None:
        """Starts all engines at once.

        Raises:
            RunFailedError: one does not come up.
        """
        self._slots = [self._slot(index) for index in range(self._rollout.engines)]
        await asyncio.gather(*(slot.start() for slot in self._slots))

    def _slot(self, index: int) -> EngineSlot:
        name = f"Rollout engine {index + 1} of {self._rollout.engines}"
        return EngineSlot(name, lambda: self._new_engine(index), self._catch_up, self._say)

    async def sample(
        self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int, sticky: int | None = None
    ) -> list[Completion]:
        """``n`` completions of one prompt; temperature 0 is greedy.

        An engine that dies or does not answer within ``request_timeout_s`` is replaced beside the work, and the request is sent
        again: to another engine, or, where all are being replaced, to the first that is.

        Args:
            sticky: requests with the same number go to the same engine, which still has the keys and values of what their prompts
                share: round k of an episode then costs its new tokens alone. Left out, under repair or far behind the others: the
                least loaded engine.

        Raises:
            ValueError: the engine refuses the request, for example a prompt that is too long.
            RunFailedError: the request failed ``TRIES`` times, no engine is left, or two ran out of memory at it.
        """
        failure, deaths = "", MemoryDeaths()
        for _ in range(TRIES):
            slot = await self._choose(sticky)
            engine, entry = slot.actor, slot.ledger.begin(n)
            try:
                async with asyncio.timeout(self._rollout.request_timeout_s):  # wait_for may lose a cancellation
                    completions = await engine.sample(list(prompt_ids), n, temperature, seed)
                slot.ledger.count(len(prompt_ids), completions)
                return completions
            except RayTaskError as error:
                if isinstance(error.cause, ValueError):
                    raise error.cause from None  # the request is at fault, not the engine
                failure = reason(error)
            except (RayError, TimeoutError) as error:
                failure = reason(error)
            finally:
                slot.ledger.end(entry)
            slot.mend(engine, failure)
            if deaths.again(failure, "this request"):
                raise RunFailedError(f"Two rollout engines ran out of memory at the same request, the last with: {failure}. {LESS_MEMORY}")
        raise RunFailedError(f"The rollout engines failed {TRIES} times at the same request, last with: {failure}. {LESS_MEMORY}")

    async def _choose(self, sticky: int | None) -> EngineSlot:
        """The least loaded engine, or the request's own one; waits where all are under repair.

        Raises:
            RunFailedError: none is left.
        """
        while not (up := [slot for slot in self._slots if slot.up]):
            repairs = [slot.repair for slot in self._slots if slot.repair is not None]
            if not repairs:
                raise RunFailedError(f"No rollout engine is left: {'; '.join(slot.lost for slot in self._slots)}. {LESS_MEMORY}")
            await asyncio.wait(repairs, return_when=asyncio.FIRST_COMPLETED)
        least = min(up, key=lambda slot: slot.ledger.in_flight)
        if sticky is None:
            return least
        own = self._slots[sticky % len(self._slots)]
        return own if own.up and own.ledger.in_flight - least.ledger.in_flight <= STICKY_LEAD else least

    async def publish(self, version: int, weights: Any) -> Published:
        """Gives every engine new weights, all at once; an engine that fails meanwhile is replaced, beside the work, by one that has them.

        Args:
            version: from now on part of every completion.
            weights: a ``WeightsSource``, or a list of (Hugging Face name, tensor).

        Raises:
            Exception: the source's, where it fails. Engines then wait for the next update.
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
            slots = [slot for slot in self._slots if slot.up]
            engines = [slot.actor for slot in slots]
            link = (source.sender(), engines) if self._linked else (None, engines)
            results = await update.send(engines, joined=link == self._on_link)
            self._on_link = link if all(isinstance(result, float) for result in results) else (None, [])
            self._update = update
            self._sendable.set()
            for slot, engine, result in zip(slots, engines, results, strict=True):
                if isinstance(result, str):
                    slot.mend(engine, result)
                elif slot.actor is engine:
                    slot.ledger.updated(version)
        seconds = tuple(result for result in results if isinstance(result, float))
        failures = tuple(result for result in results if isinstance(result, str))
        return Published(version, update.bytes, update.buckets, time.monotonic() - start, seconds, failures)

    async def _catch_up(self, engine: Engine) -> int:
        """Sends the current weights, and newer ones that came meanwhile, to a fresh engine; the version that it holds then.

        Raises:
            RuntimeError: the engine does not take them.
        """
        held = None  # not 0: a run may publish its first weights as version 0
        while True:
            await self._sendable.wait()
            update = self._update
            if update is None or held == update.version:
                return held or 0
            try:
                self._on_link = (None, [])  # over a link, this engine gets one of its own
                await update.resend(engine)
                held = update.version
            except EngineRefusedError:
                raise
            except Exception as error:  # the source's: it has moved on or is lost
                if self._update is update:
                    self._say(f"A new rollout engine waits for the next weights: {reason(error)}")
                    self._sendable.clear()  # the next update brings it up

    async def close(self) -> None:
        """Ends all engines and their processes; also in the middle of their start."""
        await asyncio.gather(*(slot.close(CLOSE_TIMEOUT_S) for slot in self._slots))
        self._slots = []
