"""Placement groups of a Ray on this machine: room that is found, kept, given back, or missed with a sentence."""

import threading
import time
from collections.abc import Iterator

import pytest
import ray
from ray.util.placement_group import placement_group_table

from rollout.settings import RolloutSettings
from sandbox.settings import SandboxSettings
from trainer.cluster.placement import GroupRequest, Placement, check_visible, reserve
from trainer.cluster.session import device_of, start_ray, stop_ray
from trainer.cluster.settings import ClusterSettings, ResourceSettings
from trainer.settings import LearnerSettings, RunSettings


@pytest.fixture(scope="module", autouse=True)
def a_ray_of_our_own() -> Iterator[None]:
    folder = start_ray(RunSettings(learner=LearnerSettings(ranks=2)))
    yield
    stop_ray(folder)


def free_cpus() -> float:
    time.sleep(0.3)
    return ray.available_resources().get("CPU", 0.0)


async def test_actors_run_in_the_bundle_of_their_number_and_the_room_is_given_back(tmp_path):
    before = free_cpus()
    settings = RunSettings(sandbox=SandboxSettings(actors=2), rollout=RolloutSettings(engines=1))
    placement = Placement(settings, "cpu", tmp_path, print)
    await placement.sandbox()
    await placement.engines("owner/name")
    groups = placement.learner()
    assert free_cpus() == before - 0.5 * 2 - 0.5 - 1

    @ray.remote(num_cpus=0.5)
    class Actor:
        def group(self) -> str:
            return ray.util.get_current_placement_group().id.hex()

    actor = Actor.options(**placement.sandbox_options(1)).remote()
    table = placement_group_table(placement._groups["sandbox"])
    assert await actor.group.remote() == table["placement_group_id"] and len(table["bundles"]) == 2
    ray.kill(actor)
    placement.remove()
    for group in groups:
        ray.util.remove_placement_group(group)
    assert free_cpus() == before


async def test_a_cluster_without_the_resource_is_told_what_is_missing_while_the_run_waits(tmp_path):
    cluster = ClusterSettings(resources=ResourceSettings(sandbox={"sandbox": 1.0}), placement_timeout_s=1.5)
    placement = Placement(RunSettings(cluster=cluster), "cpu", tmp_path, print)
    with pytest.raises(ValueError, match=r"no room within 1.5 s for sandbox.actors=2 sandboxes: 2 x \{CPU: 0.5, sandbox: 1\} \(SPREAD\)"):
        await placement.sandbox()
    placement.remove()


def test_a_wait_that_is_given_up_ends_soon_and_leaves_nothing():
    before, given_up = free_cpus(), threading.Event()
    threading.Timer(0.5, given_up.set).start()
    start = time.monotonic()
    with pytest.raises(ValueError):
        reserve(GroupRequest("too much", "ask for less", [{"CPU": 1000.0}], "PACK"), 60.0, given_up=given_up)
    assert time.monotonic() - start < 5 and free_cpus() == before


async def test_a_learner_whose_run_folder_is_a_url_stays_on_the_drivers_node(tmp_path):
    settings = RunSettings()
    settings = settings.model_copy(update={"trainer": settings.trainer.model_copy(update={"run_dir": "s3://bucket/run"})})
    placement = Placement(settings, "cpu", tmp_path, print)
    (group,) = placement.learner()
    assert set(placement_group_table(group)["bundles_to_node_id"].values()) == {ray.get_runtime_context().get_node_id()}
    ray.util.remove_placement_group(group)
    with pytest.raises(ValueError, match=r"on the node of the driver, since trainer\.run_dir is a URL"):
        reserve(GroupRequest("a rank", "move it", [{"CPU": 1.0}], "STRICT_PACK", node_id="f" * 56), 1.0)


def test_the_devices_of_a_cluster_are_the_clusters(tmp_path):
    assert device_of(RunSettings()) == "cpu"
    with pytest.raises(ValueError, match="neither this machine nor the cluster has a GPU"):
        device_of(RunSettings(cluster=ClusterSettings(device="cuda")))


def test_this_node_need_not_be_asked_what_it_sees(tmp_path):
    check_visible(tmp_path / "missing", {ray.get_runtime_context().get_node_id()}, "the learner")
