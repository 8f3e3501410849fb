"""What each kind of actor asks room for; no Ray runs."""

from rollout.settings import RolloutSettings
from sandbox.settings import SandboxSettings
from trainer.cluster.placement import format_resources, request_engines, request_learner, request_sandbox
from trainer.cluster.settings import ClusterSettings, ResourceSettings
from trainer.settings import LearnerSettings, RunSettings


def test_every_engine_has_a_bundle_with_its_gpus():
    wanted = request_engines(RunSettings(rollout=RolloutSettings(engines=3, tensor_parallel=2)), "cuda")
    assert wanted.bundles == [{"CPU": 1.0, "GPU": 2.0}] * 3 and wanted.strategy == "PACK"
    assert request_engines(RunSettings(rollout=RolloutSettings(engines=1)), "cpu").bundles == [{"CPU": 0.5}]


def test_actors_that_ask_for_no_cpu_have_a_bundle_nevertheless():
    assert request_engines(RunSettings(rollout=RolloutSettings(cpus_per_engine=0)), "cpu").bundles == [{"CPU": 0.001}]
    assert request_sandbox(RunSettings(sandbox=SandboxSettings(actors=1, cpus_per_actor=0))).bundles == [{"CPU": 0.001}]


def test_custom_resources_go_into_every_bundle_of_their_kind_alone():
    cluster = ClusterSettings(resources=ResourceSettings(sandbox={"sandbox": 1.0}), sandbox_strategy="STRICT_SPREAD")
    settings = RunSettings(cluster=cluster, sandbox=SandboxSettings(actors=2))
    assert request_sandbox(settings).bundles == [{"CPU": 0.5, "sandbox": 1.0}] * 2
    assert request_sandbox(settings).strategy == "STRICT_SPREAD"
    assert "sandbox" not in request_engines(settings, "cuda").bundles[0]


def test_the_learner_has_a_group_for_each_machine_with_its_ranks_side_by_side():
    wanted = request_learner(LearnerSettings(ranks=6, nodes=2), "cuda", {"fast": 0.5})
    assert [(one.strategy, one.bundles) for one in wanted] == [("STRICT_PACK", [{"CPU": 1.0, "GPU": 1.0, "fast": 0.5}] * 3)] * 2
    assert "part 2 of learner.nodes=2" in wanted[1].sentence


def test_resources_are_shown_without_what_ray_adds_for_itself():
    assert (
        format_resources({"CPU": 4.0, "GPU": 0.5, "node:10.0.0.1": 1.0, "CPU_group_0_ab": 1.0, "memory": 1e9, "object_store_memory": 1e9})
        == "{CPU: 4, GPU: 0.5}"
    )
