"""GPU or CPU: with GPUs there, a run takes them or says how many it lacks."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml

from conf.crosschecks import STAGES, problems_between_settings
from launch import ROOT
from launch.compose import compose_settings
from launch.doctor import LEAST_DRIVER, driver
from launch.shell import load_run_settings
from rollout.settings import ModelSettings, RolloutSettings
from tests.demo import demo_values
from trainer.cluster.devices import choose
from trainer.cluster.session import device_of
from trainer.cluster.settings import ClusterSettings
from trainer.cluster.sweep import fitting, trial_gpus
from trainer.settings import LearnerSettings, RunSettings, TrainerSettings

SEVEN = ["experiment=flowreasoner_7b", "cluster.device=auto"]
FOURTEEN = ["experiment=flowreasoner_14b", "cluster.device=auto"]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Makes this machine one with so many GPUs, outside of any cluster."""
    for name in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)

    def make(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return make


def refusal(overrides: list[str]) -> str:
    with pytest.raises(ValueError) as caught:
        compose_settings(overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("overrides", "present", "needed"), [(SEVEN, 1, 8), (SEVEN, 7, 8), (FOURTEEN, 1, 12), (FOURTEEN, 8, 12)])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_too_few_gpus_are_refused_with_what_each_part_takes_and_the_remedy(gpus, overrides, present: int, needed: int, device: str):
    gpus(present)
    sentence = refusal([*overrides, f"cluster.device={device}"])
    ranks, engines = (8, "4 for rollout.engines=2 x rollout.tensor_parallel=2") if needed == 12 else (4, "4 for rollout.engines=4 x")
    assert f"cluster.device={device} needs {needed} GPUs" in sentence and f"this machine has {present}" in sentence
    assert f"{ranks} for learner.ranks={ranks}" in sentence and engines in sentence
    assert ("lower these numbers" if present > 1 else "2 are the least") in sentence and "cluster.device=cpu" in sentence


def test_enough_gpus_are_taken_and_none_means_cpu(gpus):
    for overrides, enough in ((SEVEN, 8), (FOURTEEN, 12)):
        gpus(enough)
        assert device_of(compose_settings(overrides)) == "cuda"
        gpus(0)
        assert device_of(compose_settings(overrides)) == "cpu"


def test_a_large_policy_on_a_machine_without_gpus_is_warned_about(gpus):
    gpus(0)
    said: list[str] = []
    device_of(compose_settings(SEVEN), say=said.append)
    assert len(said) == 1 and said[0].startswith("WARNING: deepseek-ai/DeepSeek-R1-Distill-Qwen-7B runs on CPU")


@pytest.mark.parametrize(("present", "device", "lines"), [(0, "cpu", 0), (1, "cpu", 1), (2, "cuda", 0)])
def test_the_first_command_works_at_once_with_any_number_of_gpus(gpus, present: int, device: str, lines: int):
    gpus(present)
    said: list[str] = []
    assert device_of(compose_settings(), say=said.append) == device and len(said) == lines
    assert not lines or re.search("nano policy runs on CPU.*needs 2, .* has 1", said[0])


def test_cpu_asked_for_by_name_is_cpu_whatever_is_there(gpus):
    for present in (0, 1, 8):
        gpus(present)
        assert device_of(compose_settings([*SEVEN, "cluster.device=cpu"])) == "cpu"


def test_only_parts_that_are_started_are_counted(gpus):
    gpus(4)
    assert device_of(compose_settings([*SEVEN, "trainer.stages=[evaluate]"]), learner=False) == "cuda"
    assert compose_settings([*SEVEN, "trainer.stages=[distil]"]) and compose_settings([*SEVEN, "trainer.stages=[distil,sft]"])
    assert device_of(compose_settings([*SEVEN, "trainer.stages=[distil]"]), learner=False, engines=False) == "cpu"


def test_one_gpu_answers_queries_of_a_run_that_many_trained(gpus, tmp_path: Path):
    values = demo_values({})
    values["model"]["path"], values["learner"]["ranks"], values["cluster"]["device"] = "owner/name", 4, "cuda"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    gpus(1)
    assert device_of(load_run_settings(tmp_path), learner=False) == "cuda"
    with pytest.raises(ValueError, match="needs 4 GPUs"):
        device_of(load_run_settings(tmp_path), engines=False)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_the_gpus_of_a_cluster_are_not_those_of_its_driver(gpus, device: str):
    gpus(0)
    compose_settings(["experiment=flowreasoner_7b", "cluster=multi_node", "trainer.run_dir=/x", f"cluster.device={device}"])
    gpus(1)
    compose_settings(["experiment=flowreasoner_7b", "cluster=multi_node", "trainer.run_dir=/x", f"cluster.device={device}"])


def settings(device: str, path: str = "owner/name", *, stages: Sequence[str] = STAGES) -> RunSettings:
    return RunSettings(
        trainer=TrainerSettings.model_validate({"stages": tuple(stages)}),
        model=ModelSettings(path=path),
        learner=LearnerSettings(ranks=2),
        rollout=RolloutSettings(engines=2),
        cluster=ClusterSettings.model_validate({"device": device}),
    )


def test_a_cluster_that_is_too_small_may_still_grow_where_cuda_is_asked_for_by_name():
    assert choose(settings("cuda"), 1, "the cluster").name == "cuda"
    with pytest.raises(ValueError, match=r"needs 4 GPUs .* and the cluster has 1: .* wait for more nodes with cluster.device=cuda"):
        choose(settings("auto"), 1, "the cluster")


def test_a_sweep_counts_as_its_trials_do():
    def taken(*trials: RunSettings, gpus: float) -> int:
        return trial_gpus(trials, {"GPU": gpus} if gpus else {}, "this machine")

    assert taken(settings("auto"), settings("auto"), gpus=8) == 4
    assert fitting(0, 1.0, 4, {"CPU": 64.0, "GPU": 8.0}, "this machine")[0] == 2
    assert taken(settings("auto", "nano"), gpus=1) == 0 == taken(settings("auto"), gpus=0)
    assert taken(settings("cuda"), gpus=1) == 4


@pytest.mark.parametrize("stages", [stages for length in range(1, 5) for stages in itertools.combinations(STAGES, length)], ids=",".join)
def test_a_sweep_counts_the_parts_of_its_trials_stages_as_a_single_run_does(gpus, stages: tuple[str, ...]):
    needed = 2 * bool({"sft", "grpo"} & set(stages)) + 2 * bool({"grpo", "evaluate"} & set(stages))
    one = settings("auto", stages=stages)
    for present in (1, 2, 3):
        gpus(present)
        alone = [line for line in problems_between_settings(one) if "GPUs" in line]
        if needed <= present:
            assert not alone and trial_gpus([one], {"GPU": float(present)}, "this machine") == needed
            continue
        with pytest.raises(ValueError) as refused:
            trial_gpus([one], {"GPU": float(present)}, "this machine")
        assert alone == [str(refused.value)] and "wait for more nodes" not in alone[0]


def test_a_trial_on_cpu_does_not_hide_what_another_one_takes():
    smaller = settings("cuda", stages=["distil", "sft"])
    assert trial_gpus([settings("cpu"), smaller], {"GPU": 2.0}, "the cluster") == 2


@pytest.mark.parametrize(
    ("text", "version", "good"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  12.2.0",
            "535.104.05",
            False,
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)", "580.65.06", True),
        ("something else", "of unknown version", False),
    ],
)
def test_the_doctor_refuses_a_driver_that_is_older_than_the_gpu_environment(text: str, version: str, good: bool):
    found = driver(text)
    assert (found.value, found.good) == (version, good) and "580 or newer" in found.remedy


def test_the_gpu_environment_is_of_the_cuda_that_the_doctor_and_the_docs_name():
    packages = (ROOT / "requirements" / "gpu.txt").read_text()
    assert re.search(r"^cuda-toolkit==13\.", packages, re.MULTILINE) and LEAST_DRIVER == 580
    for file in ("README.md", "docs/cluster.md"):
        assert "NVIDIA driver 580 or newer" in (ROOT / file).read_text(), file
    assert "torch==2.13." in packages and "vllm==0.31." in packages and "torch 2.13 and vLLM 0.31" in (ROOT / "docs/cluster.md").read_text()
