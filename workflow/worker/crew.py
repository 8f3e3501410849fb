"""The workers of a run that operators may ask by name (settings ``workers``), as policies and workflows know them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from workflow.registry import nearest
from workflow.settings import WorkerSettings

DEFAULT_WORKER = "default"
"""Name of the worker that is asked where a call names none: the one of the settings ``worker``."""


@dataclass(frozen=True, slots=True)
class WorkerCard:
    """What a policy is told of a worker."""

    name: str
    """What operators take as ``worker=``."""
    model: str
    prompt_dollars_per_million: float
    completion_dollars_per_million: float
    strength: str = ""
    """What it is good at; empty where nobody said."""


def name_workers(worker: WorkerSettings, others: Mapping[str, WorkerSettings]) -> tuple[WorkerCard, ...]:
    """Whom operators may ask by name, the default worker first; empty where there are no others."""
    several = {DEFAULT_WORKER: worker, **others} if others else {}
    return tuple(
        WorkerCard(
            name, one.model or one.provider, one.prompt_dollars_per_million, one.completion_dollars_per_million, strength=one.strength
        )
        for name, one in several.items()
    )


def problem_of_worker(name: object, known: Collection[str]) -> str:
    """Why no worker can be asked by this name; empty where one can.

    Args:
        known: names of the run's workers; empty where it has one, without a name.
    """
    if isinstance(name, str) and name in known:
        return ""
    if not known:
        return "this run has one worker: leave worker= out"
    near = nearest(name, known) if isinstance(name, str) else ""
    hint = f"did you mean {near!r}? " if near else ""
    return f"there is no worker {name!r}: {hint}The workers are {', '.join(map(repr, known))}"
