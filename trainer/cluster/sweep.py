"""One Ray cluster for all trials of a sweep, and how many of them it holds at a time."""

import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from trainer.cluster.devices import choose, gpus_needed, started_parts
from trainer.cluster.session import ROOT, actor_cpus, no_answer, sigterm_kept
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
    cpus = max(actor_cpus(settings, **started_parts(settings.trainer.stages)) for settings in trials)
    address = trials[0].cluster.address or os.environ.get("RAY_ADDRESS")
    if address or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        resources = _resources(address or "auto")
        parallel, note = fitting(asked, cpus, trial_gpus(trials, resources, "the cluster"), resources, "the cluster")
        yield Shared(parallel, {}, note)
        return
    cores = os.cpu_count() or 1
    parallel = asked or max(1, int(cores // cpus))
    temp = Path(tempfile.mkdtemp(prefix="fr-"))  # short, as in trainer.cluster.session
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DISABLE_MEMORY_MONITOR", "1")
    options = {
        "num_cpus": max(cores, parallel * (math.ceil(cpus) + 1)),
        "object_store_memory": parallel * max(settings.cluster.object_store_mib for settings in trials) * 2**20,
        "include_dashboard": False,
        "_temp_dir": str(temp),
    }
    try:
        with _ray(**options):
            resources = ray.cluster_resources()
            parallel, note = fitting(parallel, cpus, trial_gpus(trials, resources, "this machine"), resources, "this machine")
            paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
            job = {"runtime_env": {"env_vars": {"PYTHONPATH": paths}}}
            joined = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)}
            yield Shared(parallel, joined, note)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def trial_gpus(trials: Sequence[RunSettings], resources: Mapping[str, float], where: str) -> int:
    """GPUs of the trial that takes most for the parts that its stages start; 0 where all run on CPU.

    Args:
        resources: as Ray names them. where: whose they are, ``this machine`` or ``the cluster``.

    Raises:
        ValueError: there are some and not enough for a trial.
    """
    most = 0
    for settings in trials:
        parts = started_parts(settings.trainer.stages)
        if choose(settings, int(resources.get("GPU", 0)), where, **parts).name == "cuda":
            most = max(most, gpus_needed(settings, **parts))
    return most


@contextmanager
def _ray(**options: Any) -> Iterator[None]:
    """Ray between ``init`` and ``shutdown``, with SIGTERM left to us."""
    try:
        with sigterm_kept():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        yield
    finally:
        with sigterm_kept():
            ray.shutdown()


def _resources(address: str) -> Mapping[str, float]:
    """What the cluster at an address has. Raises ValueError where it does not answer."""
    try:
        with _ray(address=address):
            return ray.cluster_resources()
    except (ConnectionError, RuntimeError, AuthenticationError) as failure:
        raise no_answer(address, failure) from None


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
