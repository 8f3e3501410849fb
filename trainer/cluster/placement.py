"""Where a run's actors go: placement groups. Every kind has its room before its actors start.

Engines have a bundle each in one group, sandboxes in another, and each machine of the learner has a group of its own. When a node dies,
Ray places its bundles anew as soon as there is room; an actor that replaces a lost one belongs to the same bundle and waits for it.
"""

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from rollout.policy_files import is_url
from trainer.settings import LearnerSettings, RunSettings

Placer = Callable[[], list[PlacementGroup]]
MIN_CPUS = 0.001
"""Of a CPU, for actors that ask for none: Ray refuses empty bundles."""
LOOK_EVERY_S = 1.0
"""How often a wait for room looks whether it was given up."""
TELL_EVERY_S = 15.0
LOOK_TIMEOUT_S = 60.0
"""For a task that looks for a file on another node."""
MORE_ROOM = "nodes, or (for CPUs) start Ray with more of them than there are cores, ray start --num-cpus=N"
ON_NODE = "ray.io/node-id"
"""Label that every Ray node has."""


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """A placement group to be made."""

    what: str
    """In words, for the console."""
    remedy: str
    """Which settings make it smaller."""
    bundles: Sequence[dict[str, float]]
    strategy: str
    node_id: str | None = None
    """The one node that will do; None: any."""

    @property
    def sentence(self) -> str:
        """What is wanted."""
        where = " on the node of the driver, since trainer.run_dir is a URL," if self.node_id else ""
        return f"{self.what}:{where} {len(self.bundles)} x {format_resources(self.bundles[0])} ({self.strategy})"


def format_resources(resources: Mapping[str, float]) -> str:
    """Resources in words, without Ray's own marks of nodes and groups."""
    ours = (name for name in sorted(resources) if not name.startswith(("node:", "memory", "object_store")) and "_group_" not in name)
    kept = {name: resources[name] for name in ours}
    return "{" + ", ".join(f"{name}: {value:g}" for name, value in kept.items()) + "}"


def reserve(
    wanted: GroupRequest, timeout_s: float, say: Callable[[str], None] = lambda text: None, given_up: threading.Event | None = None
) -> PlacementGroup:
    """A placement group that has its room; blocks. Tells every ``TELL_EVERY_S`` that it still waits.

    Raises:
        ValueError: there is no room within ``timeout_s``; what is wanted and what the cluster has.
    """
    pinned: dict[str, Any] = {"bundle_label_selector": [{ON_NODE: wanted.node_id} for _ in wanted.bundles]} if wanted.node_id else {}
    group = placement_group(list(wanted.bundles), strategy=wanted.strategy, **pinned)
    start = last_said = time.monotonic()
    while not group.wait(LOOK_EVERY_S):
        now = time.monotonic()
        if now - start >= timeout_s or (given_up is not None and given_up.is_set()):
            nodes = sum(bool(node["Alive"]) for node in ray.nodes())
            total, free = format_resources(ray.cluster_resources()), format_resources(ray.available_resources())
            has = f"it has {total} on {nodes} nodes, of which {free} are free"
            remove_placement_group(group)
            raise ValueError(
                f"The Ray cluster has no room within {timeout_s:g} s for {wanted.sentence}; {has}: {wanted.remedy}, or add {MORE_ROOM}."
            )
        if now - last_said >= TELL_EVERY_S:
            last_said = now
            free = f"the cluster has {format_resources(ray.available_resources())} free ({now - start:.0f} s)"
            say(f"Waiting for room for {wanted.sentence}; {free}. Add {MORE_ROOM}.")
    return group


def request_learner(
    settings: LearnerSettings, device: str, resources: dict[str, float] | None = None, node_id: str | None = None
) -> list[GroupRequest]:
    """A group for each machine of the learner, whose ranks are side by side."""
    bundle = {"CPU": 1.0} | ({"GPU": 1.0} if device == "cuda" else {}) | (resources or {})
    each = settings.ranks // settings.nodes
    part = f" (part {{}} of learner.nodes={settings.nodes})" if settings.nodes > 1 else ""
    remedy = "lower learner.ranks, raise learner.nodes, change cluster.resources.learner" + (
        ", or submit with --entrypoint-resources to a larger node" if node_id else ""
    )
    return [
        GroupRequest(f"learner.ranks={settings.ranks} ranks{part.format(number)}", remedy, [bundle] * each, "STRICT_PACK", node_id)
        for number in range(1, settings.nodes + 1)
    ]


class Placement:
    """The room of one run's actors. ``engines``, ``sandbox`` and ``learner`` wait for it."""

    def __init__(self, settings: RunSettings, device: str, run_path: Path, say: Callable[[str], None]) -> None:
        """
        Args:
            run_path: folder that the nodes of the learner must see.
        """
        self._settings = settings
        self._device = device
        self._run_path = run_path
        self._say = say
        self._given_up = threading.Event()
        self._groups: dict[str, PlacementGroup] = {}

    async def engines(self, policy: str) -> None:
        """Room for the engines, on nodes that see the policy. Raises ValueError where there is none."""
        group = await self._place("engines", request_engines(self._settings, self._device))
        if not is_url(policy) and Path(policy).exists():
            await asyncio.to_thread(check_visible, Path(policy), nodes_of([group]), "rollout engines")

    async def sandbox(self) -> None:
        """Room for the sandbox actors. Raises ValueError where there is none."""
        await self._place("sandbox", request_sandbox(self._settings))

    def learner(self, *, patient: bool = False) -> list[PlacementGroup]:
        """Room for the learner's ranks, on nodes that see the run folder; blocks. The caller removes it.

        Args:
            patient: waits for nodes as long as the run lasts; else for ``cluster.placement_timeout_s``.

        Raises:
            ValueError: there is none, or a node does not see the run folder.
        """
        cluster = self._settings.cluster
        here = ray.get_runtime_context().get_node_id() if is_url(self._settings.trainer.run_dir) else None
        wanted = request_learner(self._settings.learner, self._device, cluster.resources.learner, here)
        timeout_s = math.inf if patient else cluster.placement_timeout_s
        groups = reserve_all(wanted, timeout_s, self._say, self._given_up)
        check_visible(self._run_path, nodes_of(groups), "the learner")
        return groups

    def engine_options(self, index: int) -> dict[str, Any]:
        """Ray actor options of the engine with this number."""
        return in_bundle(self._groups["engines"], index)

    def sandbox_options(self, index: int) -> dict[str, Any]:
        """Ray actor options of the sandbox actor with this number."""
        return in_bundle(self._groups["sandbox"], index)

    def give_up(self) -> None:
        """Ends all waiting for room."""
        self._given_up.set()

    def remove(self) -> None:
        """Gives the room of engines and sandboxes back."""
        for group in self._groups.values():
            remove_placement_group(group)
        self._groups = {}

    async def _place(self, kind: str, wanted: GroupRequest) -> PlacementGroup:
        timeout_s = self._settings.cluster.placement_timeout_s
        try:
            self._groups[kind] = await asyncio.to_thread(reserve, wanted, timeout_s, self._say, self._given_up)
        except asyncio.CancelledError:
            self.give_up()
            raise
        return self._groups[kind]


def request_engines(settings: RunSettings, device: str) -> GroupRequest:
    """One bundle an engine."""
    rollout, cluster = settings.rollout, settings.cluster
    gpus = {"CPU": 1.0, "GPU": float(rollout.tensor_parallel)} if device == "cuda" else {"CPU": max(rollout.cpus_per_engine, MIN_CPUS)}
    bundles = [gpus | cluster.resources.engines] * rollout.engines
    remedy = "lower rollout.engines or rollout.tensor_parallel, change cluster.resources.engines or cluster.engines_strategy"
    return GroupRequest(f"rollout.engines={rollout.engines} engines", remedy, bundles, cluster.engines_strategy)


def request_sandbox(settings: RunSettings) -> GroupRequest:
    """One bundle a sandbox actor."""
    sandbox, cluster = settings.sandbox, settings.cluster
    bundles = [{"CPU": max(sandbox.cpus_per_actor, MIN_CPUS)} | cluster.resources.sandbox] * sandbox.actors
    remedy = "lower sandbox.actors or sandbox.cpus_per_actor, change cluster.resources.sandbox or cluster.sandbox_strategy"
    return GroupRequest(f"sandbox.actors={sandbox.actors} sandboxes", remedy, bundles, cluster.sandbox_strategy)


def reserve_all(
    wanted: Iterable[GroupRequest], timeout_s: float, say: Callable[[str], None] = lambda text: None, ended: threading.Event | None = None
) -> list[PlacementGroup]:
    """Several groups; where one has no room, those before it are given back. Raises ValueError as ``reserve``."""
    groups: list[PlacementGroup] = []
    try:
        for one in wanted:
            groups.append(reserve(one, timeout_s, say, ended))
    except BaseException:
        for group in groups:
            remove_placement_group(group)
        raise
    return groups


def in_bundle(group: PlacementGroup, index: int) -> dict[str, Any]:
    """Options of the one actor that lives in a bundle."""
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=index)}


def nodes_of(groups: Iterable[PlacementGroup]) -> set[str]:
    """Ids of the nodes on which bundles lie."""
    return {node for group in groups for node in placement_group_table(group)["bundles_to_node_id"].values()}


@ray.remote(num_cpus=0)
def _sees(path: str) -> bool:
    return os.path.exists(path)


def check_visible(path: Path, nodes: set[str], who: str) -> None:
    """Looks for a path on every node but this one; blocks.

    Raises:
        ValueError: a node does not see it.
    """
    others = sorted(nodes - {ray.get_runtime_context().get_node_id()})
    looks = [_sees.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(str(path)) for node in others]
    for node, look in zip(others, looks, strict=True):
        try:
            seen = ray.get(look, timeout=LOOK_TIMEOUT_S)
        except (RayError, TimeoutError):
            continue  # the node went away again: its bundles go elsewhere
        if not seen:
            address = next((str(one["NodeManagerAddress"]) for one in ray.nodes() if one["NodeID"] == node), node)
            raise ValueError(
                f"{path} is not to be seen on node {address}, where {who} would run: give trainer.run_dir a path on storage that all nodes "
                "mount, or a URL like s3://bucket/run."
            )


def learner_groups(settings: LearnerSettings, device: str, timeout_s: float = 120.0) -> list[PlacementGroup]:
    """Room for a learner by itself, outside of a run; blocks. Raises ValueError where there is none."""
    return reserve_all(request_learner(settings, device), timeout_s)
