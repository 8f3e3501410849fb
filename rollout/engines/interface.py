"""Rollout engines as the rest of the run sees them, and the door through which another one comes.

``rollout.engine`` names a factory: given an ``EngineSpec``, it makes an ``Engine``. Most of an engine is the same whatever samples:
that half is ``rollout.engines.actor.PolicyEngine``, an actor around a ``EngineBackend`` of few calls, and ``rollout.engines.ray_engine``
has its handle. So another engine is one file with a ``EngineBackend`` and a factory that returns ``RayEngine(spec, ThatBackend, ...)``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rollout.records import Completion
from rollout.settings import ModelSettings, RolloutSettings
from workflow.registry import Registry

if TYPE_CHECKING:  # a command looks the name of an engine up without torch
    from rollout.weights.buckets import Bucket, TensorSum
    from rollout.weights.link import Address


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What an engine is to sample from, and how."""

    policy: str | Path
    """Path or URL of a Hugging Face folder, or a hub id."""
    model: ModelSettings
    rollout: RolloutSettings
    """``engine_args`` are the engine's own."""
    device: str
    """``cuda`` or ``cpu``."""
    deterministic: bool = False
    """A completion depends on its request and the weights alone, to the last bit."""


class Engine(Protocol):
    """One engine as the fleet sees it. Its failures are RayError, TimeoutError or WeightsMismatchError."""

    async def placed(self) -> None:
        """Returns once the engine has a place on a node; its model is not loaded yet."""
        ...

    async def ready(self) -> list[int]:
        """Process ids, once the engine is up."""
        ...

    async def sample(self, prompt_ids: list[int], n: int, temperature: float, seed: int) -> list[Completion]:
        """``n`` completions of one prompt."""
        ...

    async def connect(self, address: "Address", first: int) -> None:
        """Joins the link over which buckets without a payload come."""
        ...

    async def start_update(self, version: int) -> None:
        """From now on no request samples until ``finish_update``."""
        ...

    async def load_bucket(self, bucket: "Bucket") -> None:
        """Checks and loads some tensors."""
        ...

    async def finish_update(self, version: int) -> int:
        """Checks what was loaded; the digest of the weights that the engine holds."""
        ...

    async def close(self) -> None:
        """Ends the engine's own processes."""
        ...

    def kill(self) -> None:
        """Ends the engine at once."""
        ...


class EngineFactory(Protocol):
    """Makes one engine of a run, also in place of one that died."""

    def __call__(self, spec: EngineSpec, *, place: Mapping[str, Any] | None = None, say: Callable[[str], None] | None = None) -> Engine:
        """
        Args:
            place: Ray actor options that say where it runs.
            say: prints one line; None: another engine speaks for all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens of one sequence that were sampled without a break, from one version of the weights."""

    token_ids: Sequence[int]
    logprobs: Sequence[float]
    """Of each token under temperature and top-p, as it was sampled."""
    end: Literal["stop", "length"] | None
    """Why the sequence is finished; None where ``EngineBackend.stop`` ended it."""
    cached_tokens: int = 0
    """Of the prompt, those whose keys and values were not computed anew."""


class EngineBackend(Protocol):
    """What samples, inside an engine's actor. It need not know of versions, of requests that an update stops, or of Ray.

    It is made with the ``EngineSpec``, in a process with its ``environment``, before ``load``.
    """

    def __init__(self, spec: EngineSpec) -> None: ...

    @staticmethod
    def environment(spec: EngineSpec) -> dict[str, str]:
        """Environment variables of the process."""
        ...

    async def load(self, policy: Path) -> None:
        """Loads the model from a Hugging Face folder or hub id."""
        ...

    async def limits(self) -> str:
        """What the loaded engine does at once, in words."""
        ...

    async def generate(self, token_ids: list[int], n: int, max_tokens: int, temperature: float, seed: int) -> list[Stretch]:
        """``n`` continuations of the same tokens; many calls at a time. Temperature 0 is greedy."""
        ...

    async def stop(self) -> None:
        """Ends what is being generated, with the tokens so far, and drops keys and values; generates nothing until ``resume``."""
        ...

    async def resume(self) -> None:
        """Generates again."""
        ...

    async def connect(self, address: "Address", first: int) -> None:
        """Joins every worker to the sender's link; ``first`` is the number of the first of them among its members."""
        ...

    async def begin_update(self) -> None:
        """Weights come, while it is stopped."""
        ...

    async def load_tensors(self, tensors: "Sequence[TensorSum]", payload: Any) -> None:
        """Loads tensors whose checksums are right, from the bytes of a bucket, or over the link where there are none."""
        ...

    async def end_update(self) -> None:
        """All weights have come: checks that nothing is missing."""
        ...

    async def held_digest(self) -> int:
        """Digest of the weights that every worker holds (``rollout.weights.buckets.digest``)."""
        ...

    def shutdown(self) -> None:
        """Ends its processes; also before ``load``."""
        ...


ENGINES: Registry[EngineFactory] = Registry("rollout.engine", {"vllm": "rollout.engines.vllm.backend:vllm_engine"})


def make_engine(spec: EngineSpec, *, place: Mapping[str, Any] | None = None, say: Callable[[str], None] | None = None) -> Engine:
    """The engine that ``rollout.engine`` names."""
    return ENGINES.find(spec.rollout.engine)(spec, place=place, say=say)
