"""What a run computes on: GPUs where there are enough, and a sentence where there are too few. Imports nothing heavy."""

from collections.abc import Collection
from dataclasses import dataclass

from rollout.policies import is_made
from trainer.settings import RunSettings


@dataclass(frozen=True, slots=True)
class Device:
    """The choice, with what is to be said about it."""

    name: str
    """``cuda`` or ``cpu``."""
    note: str = ""
    """A line for the user, where the choice may surprise; else empty."""


def find_started_parts(stages: Collection[str]) -> dict[str, bool]:
    """The parts that take GPUs, by the names that the functions below know them by: True where one of the stages needs it."""
    return {"learner": not {"sft", "grpo"}.isdisjoint(stages), "engines": not {"grpo", "evaluate"}.isdisjoint(stages)}


def gpus_needed(settings: RunSettings, *, learner: bool = True, engines: bool = True) -> int:
    """GPUs, each of its own, of the parts that are started."""
    rollout = settings.rollout
    return learner * settings.learner.ranks + engines * rollout.engines * rollout.tensor_parallel


def too_few(settings: RunSettings, gpus: int, where: str, *, learner: bool = True, engines: bool = True) -> str:
    """The sentence for a run that needs more GPUs than there are.

    Args:
        where: ``this machine`` or ``the cluster``.
    """
    rollout, ranks = settings.rollout, settings.learner.ranks
    parts = [f"{ranks} for learner.ranks={ranks}"] if learner else []
    if engines:
        count = rollout.engines * rollout.tensor_parallel
        parts.append(f"{count} for rollout.engines={rollout.engines} x rollout.tensor_parallel={rollout.tensor_parallel}")
    needed, least = gpus_needed(settings, learner=learner, engines=engines), learner + engines
    lower = "lower these numbers, or" if gpus >= least else f"{least} are the least that will do:"
    wait = ", or wait for more nodes with cluster.device=cuda" if where == "the cluster" else " or a cluster (cluster.address)"
    return (
        f"cluster.device={settings.cluster.device} needs {needed} GPUs for the policy {settings.model.path} "
        f"(each of its own: {' and '.join(parts)}), and {where} has {gpus}: "
        f"{lower} use a larger machine{wait}; cluster.device=cpu does for small policies."
    )


def choose(settings: RunSettings, gpus: int, where: str, *, learner: bool = True, engines: bool = True) -> Device:
    """The device of a run for which so many GPUs are there; ``auto``: CUDA where there is any, but CPU for a policy that is made on the
    spot, and so small, where there are not enough.

    Raises:
        ValueError: ``auto``, and there are GPUs but too few of them.
    """
    wanted, made = settings.cluster.device, is_made(settings.model.path)
    needed = gpus_needed(settings, learner=learner, engines=engines)
    if wanted != "auto":
        return Device(wanted)
    if gpus >= needed:
        return Device("cuda" if gpus and needed else "cpu")
    if gpus and not made:
        raise ValueError(too_few(settings, gpus, where, learner=learner, engines=engines))
    if gpus:
        needs = f"on GPUs this run needs {needed}, each of its own, and {where} has {gpus}"
        return Device("cpu", f"The {settings.model.path} policy runs on CPU: {needs}.")
    slow = f"WARNING: {settings.model.path} runs on CPU, which suits small policies only: {where} has no GPU (cluster.device=auto)."
    return Device("cpu", "" if made else slow)
