"""One Ray cluster for all trials of a sweep, and how many of them it holds at a time."""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray

from trainer.cluster.devices import choose, find_started_parts, gpus_needed
from trainer.cluster.session import actor_cpus, join_ray, module_paths, sigterm_kept, start_local_ray, stop_ray
from trainer.cluster.submission import JOB_VARIABLE
from trainer.settings import RunSettings


@dataclass(frozen=True, slots=True)
class Shared:
    """What the processes of trials need to know."""

    parallel: int
    """Trials that run side by side."""
    environment: dict[str, str]
    """Variables by which a trial's process joins the cluster; none where its settings or the job say where it is."""
    note: str
    """The bound in words."""


@contextmanager
def sweep_cluster(trials: Sequence[RunSettings], asked: int) -> Iterator[Shared]:
    """Ray for the trials of a sweep: ``cluster.address`` or the job's cluster where there is one, else one started here.

    A trial waits for all of its actors, so no more trials are started than their CPUs and GPUs fit on the cluster. A Ray started
    here has logical CPUs for ``sweep.parallel`` trials, as a single run has for its actors, and ends with this process.

    Args:
        trials: settings of trials that are to run; the largest of them counts. asked: ``sweep.parallel``.

    Raises:
        ValueError: the address does not answer, or the cluster is too small for one trial.
    """
    cpus = max(actor_cpus(settings, **find_started_parts(settings.trainer.stages)) for settings in trials)
    address = trials[0].cluster.address or os.environ.get("RAY_ADDRESS")
    if address or JOB_VARIABLE in os.environ:
        with _ray(lambda: join_ray(address or "auto", logging_level=logging.ERROR)):
            resources = ray.cluster_resources()
        parallel, note = fitting(asked, cpus, trial_gpus(trials, resources, "the cluster"), resources, "the cluster")
        yield Shared(parallel, {}, note)
        return
    parallel = asked or max(1, int((os.cpu_count() or 1) // cpus))
    object_store_mib = parallel * max(settings.cluster.object_store_mib for settings in trials)
    with _ray(lambda: start_local_ray(parallel * (math.ceil(cpus) + 1), object_store_mib)):
        resources = ray.cluster_resources()
        fits, note = fitting(parallel, cpus, trial_gpus(trials, resources, "this machine"), resources, "this machine")
        job = json.dumps({"runtime_env": module_paths()})
        yield Shared(fits, {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, JOB_VARIABLE: job}, note)


def trial_gpus(trials: Sequence[RunSettings], resources: Mapping[str, float], where: str) -> int:
    """GPUs of the trial that takes most for the parts that its stages start; 0 where all run on CPU.

    Args:
        resources: as Ray names them. where: whose they are, ``this machine`` or ``the cluster``.

    Raises:
        ValueError: there are some and not enough for a trial.
    """
    most = 0
    for settings in trials:
        parts = find_started_parts(settings.trainer.stages)
        if choose(settings, int(resources.get("GPU", 0)), where, **parts).name == "cuda":
            most = max(most, gpus_needed(settings, **parts))
    return most


@contextmanager
def _ray(start: Callable[[], Path | None]) -> Iterator[None]:
    """Ray between its start and its end, with SIGTERM left to us."""
    with sigterm_kept():
        temp = start()
    try:
        yield
    finally:
        with sigterm_kept():
            stop_ray(temp)


def fitting(asked: int, cpus: float, gpus: int, resources: Mapping[str, float], where: str) -> tuple[int, str]:
    """Trials that run side by side, and why that many.

    Args:
        asked: ``sweep.parallel``; 0: as many as fit. cpus, gpus: what one trial takes. resources: what there is, as Ray names them.
        where: whose they are, ``this machine`` or ``the cluster``.

    Raises:
        ValueError: not even one fits.
    """
    fits = {"CPU": resources.get("CPU", 0.0) / cpus}
    if gpus:
        fits["GPU"] = resources.get("GPU", 0.0) / gpus
    scarce = min(fits, key=lambda name: fits[name])
    most = int(fits[scarce])
    if most < 1:
        more = "add nodes" if where == "the cluster" else "use a larger machine or a cluster (cluster.address)"
        raise ValueError(
            f"{where.capitalize()} has {resources.get(scarce, 0.0):g} {scarce}s and one trial takes {cpus if scarce == 'CPU' else gpus:g}: "
            f"{more}, or lower learner.ranks, rollout.engines or sandbox.actors."
        )
    parallel = min(asked or most, most)
    bound = f", since the {resources[scarce]:g} {scarce}s of {where} hold no more" if asked > most else ""
    return parallel, f"{parallel} at a time{bound}"
