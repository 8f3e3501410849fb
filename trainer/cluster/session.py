"""Joining or starting Ray, before any library does it in its own way."""

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.util
from ray.exceptions import AuthenticationError

from trainer.cluster.devices import choose, gpus_needed, too_few
from trainer.cluster.submission import JOB_VARIABLE, joins_cluster
from trainer.settings import RunSettings

ROOT = Path(__file__).resolve().parents[2]
LOCAL_STARTS = 3
"""Times that Ray is started on this machine: it gives its node 30 seconds, which a busy machine may not keep."""
SLOW_START = "timed out during startup"


def device_of(settings: RunSettings, *, learner: bool = True, engines: bool = True, say: Callable[[str], None] = lambda text: None) -> str:
    """``cuda`` or ``cpu``: as asked for or, with ``auto``, as ``trainer.cluster.devices.choose`` says.

    Once Ray runs, the cluster's GPUs count, wherever they are; before, those of this machine.

    Args:
        learner, engines: which parts are started.
        say: prints one line, where the choice may surprise.

    Raises:
        ValueError: GPUs are asked for by name or by ``auto``, and there are too few. A cluster that was joined may still grow, so there
            ``cuda`` waits for room instead; but not for the first GPU.
    """
    import torch

    gpus = int(ray.cluster_resources().get("GPU", 0)) if ray.is_initialized() else torch.cuda.device_count()
    joined = joins_cluster(settings.cluster.address)
    where, parts = "the cluster" if joined else "this machine", {"learner": learner, "engines": engines}
    if settings.cluster.device == "cuda":
        needed = gpus_needed(settings, **parts)
        if needed and not gpus:
            raise ValueError("cluster.device=cuda, but neither this machine nor the cluster has a GPU: use cluster.device=cpu or auto.")
        if needed > gpus and not joined:
            raise ValueError(too_few(settings, gpus, where, **parts))
    device = choose(settings, gpus, where, **parts)
    if device.note:
        say(device.note)
    return device.name


def actor_cpus(settings: RunSettings, *, learner: bool = True, engines: bool = True) -> float:
    """Logical CPUs that all actors of the parts that are started ask for together, driver excluded."""
    return learner * settings.learner.ranks + engines * settings.rollout.engines + settings.sandbox.actors + 1


def start_ray(settings: RunSettings) -> Path | None:
    """Joins ``cluster.address`` (or the job's cluster), else starts Ray on this machine.

    A machine with fewer cores than actors gets that many logical CPUs: actors then share the cores instead of
    waiting for ever for a core of their own. Modules reach the workers by ``PYTHONPATH`` on one machine and by
    Ray's ``working_dir`` on a cluster; a submitted job's own runtime environment is left as it is.

    Returns:
        the temporary folder of a Ray started here, to be removed by ``stop_ray``; None on a cluster.

    Raises:
        ValueError: the address does not answer.
    """
    if JOB_VARIABLE in os.environ:
        ray.init(address="auto", log_to_driver=False)
        return None
    if address := settings.cluster.address or os.environ.get("RAY_ADDRESS"):
        return join_ray(address, runtime_env={"working_dir": str(ROOT), "excludes": [".git", ".venv", "runs"]})
    return start_local_ray(int(actor_cpus(settings)) + 1, settings.cluster.object_store_mib)


def join_ray(address: str, **options: Any) -> None:
    """Joins the cluster at an address. Raises ValueError where none answers."""
    try:
        ray.init(address=address, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, AuthenticationError) as failure:
        raise no_answer(address, failure) from None


def start_local_ray(cpus: int, object_store_mib: int) -> Path:
    """Starts Ray on this machine, with that many logical CPUs or as many as it has cores; again where the machine was too busy.

    Returns:
        its temporary folder, to be removed by ``stop_ray``.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DISABLE_MEMORY_MONITOR", "1")
    temp = Path(tempfile.mkdtemp(prefix="fr-"))  # short: Ray's socket paths have a limit of 107 bytes
    for left in reversed(range(LOCAL_STARTS)):
        try:
            ray.init(
                num_cpus=max(os.cpu_count() or 1, cpus),
                object_store_memory=object_store_mib * 2**20,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(temp),
                runtime_env=module_paths(),
            )
            break
        except Exception as failure:  # Ray raises no class of its own
            ray.shutdown()
            if SLOW_START not in str(failure) or not left:
                shutil.rmtree(temp, ignore_errors=True)
                raise
    return temp


def module_paths() -> dict[str, Any]:
    """A runtime environment in which actors on this machine find our modules, and those that this process finds."""
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}}


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Around the start and the end of Ray, in the main thread: both change the handler, and Ray's own ends the process on the spot, with
    its children left behind."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)


def no_answer(address: str, failure: Exception) -> ValueError:
    """The sentence for a cluster that cannot be joined. A Ray that gets no token, or another one, only says that it does not connect."""
    reason = str(failure).strip().splitlines()[0]
    return ValueError(
        f"No Ray cluster answers at cluster.address={address!r} ({reason}): start it, or leave the address out to start one here; where it "
        "has a token, set RAY_AUTH_MODE=token, and the token in RAY_AUTH_TOKEN or ~/.ray/auth_token."
    )


def node_address() -> str:
    """The address by which other nodes reach this one."""
    return ray.util.get_node_ip_address()


def stop_ray(temp: Path | None) -> None:
    """Leaves the cluster, or stops the Ray started here and removes its folder."""
    ray.shutdown()
    if temp is not None:
        shutil.rmtree(temp, ignore_errors=True)
