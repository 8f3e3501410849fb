"""A scripted rollout engine: what samples is a script, in the process that asks."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rollout.engines.actor import PolicyEngine
from rollout.engines.interface import ENGINES, EngineSpec, Stretch
from rollout.weights.buckets import TensorSum, digest
from rollout.weights.link import Address


class CountingBackend:
    """Samples the token 5 again and again, one a turn of the event loop, until ``stop_at`` tokens or until it is stopped."""

    def __init__(self, spec: EngineSpec) -> None:
        self.stop_at = 3
        self.calls: list[str] = []
        self.received: list[TensorSum] = []
        self.stopped = False
        self.policy: Path | None = None

    @staticmethod
    def environment(spec: EngineSpec) -> dict[str, str]:
        return {}

    async def load(self, policy: Path) -> None:
        self.policy = policy

    async def limits(self) -> str:
        return "no limits"

    async def generate(self, token_ids: list[int], n: int, max_tokens: int, temperature: float, seed: int) -> list[Stretch]:
        self.calls.append(f"generate {n} of {token_ids}")
        tokens: list[int] = []
        while len(tokens) < min(self.stop_at, max_tokens):
            await asyncio.sleep(0)
            if self.stopped:
                return [Stretch(tokens, [-0.5] * len(tokens), None)] * n
            tokens.append(5)
        return [Stretch(tokens, [-0.5] * len(tokens), "stop", cached_tokens=1)] * n

    async def stop(self) -> None:
        self.calls.append("stop")
        self.stopped = True

    async def resume(self) -> None:
        self.calls.append("resume")
        self.stopped = False

    async def connect(self, address: Address, first: int) -> None:
        raise NotImplementedError("It takes weights from Ray's object store alone.")

    async def begin_update(self) -> None:
        self.calls.append("begin_update")
        self.received = []

    async def load_tensors(self, tensors: Sequence[TensorSum], payload: Any) -> None:
        if any(tensor.name == "torn" for tensor in tensors):
            raise ConnectionError("the weights did not arrive")
        self.received += tensors

    async def end_update(self) -> None:
        self.calls.append("end_update")

    async def held_digest(self) -> int:
        return digest(self.received)

    def shutdown(self) -> None:
        self.calls.append("shutdown")


class EngineHere(PolicyEngine):
    """The generic half without an actor around it."""

    async def close(self) -> None:
        self._backend.shutdown()

    def kill(self) -> None:
        """Nothing runs elsewhere."""


@ENGINES.register("tests_counting")
def counting_engine(spec: EngineSpec, *, place: Mapping[str, Any] | None = None, say: Callable[[str], None] | None = None) -> EngineHere:
    """What ``rollout.engine`` names."""
    return EngineHere(CountingBackend, spec)
