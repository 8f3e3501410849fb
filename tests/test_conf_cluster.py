"""What a cluster asks of the settings, and the files that start one."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from conf.schema import Config
from conf.schema import load as load_settings
from launch import ROOT
from launch.compose import compose_settings
from tests.demo import demo_values
from tests.sweep_factory import multirun
from trainer.cluster.submission import in_submitted_job, joins_cluster

KUBERAY = ROOT / "launch" / "cluster" / "kuberay"
JOB = json.dumps({"runtime_env": {}, "metadata": {"job_submission_id": "raysubmit_1"}})
TRIAL = json.dumps({"runtime_env": {}})


def load(values: dict) -> Config:
    return load_settings(demo_values(values))


def refusal(values: dict) -> str:
    with pytest.raises(ValueError) as caught:
        load(values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_submitted_jobs_run_folder_must_not_go_with_its_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    load({"trainer": {"run_dir": "runs/x"}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", JOB)
    assert "lies in the working directory of the submitted job" in refusal({"trainer": {"run_dir": "runs/x"}})
    load({"trainer": {"run_dir": str(tmp_path)}})
    load({"trainer": {"run_dir": "s3://bucket/run"}})
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", TRIAL)  # a sweep's trial runs where the sweep does
    load({"trainer": {"run_dir": "runs/x"}})


def test_a_trial_of_a_sweep_on_one_machine_joins_no_cluster(monkeypatch: pytest.MonkeyPatch):
    for name in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    assert not joins_cluster(None) and joins_cluster("auto")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert joins_cluster(None)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", TRIAL)
    assert not joins_cluster(None) and not in_submitted_job()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", JOB)
    assert joins_cluster(None) and in_submitted_job()


def test_the_gpus_of_a_cluster_are_not_counted_on_the_machine_of_its_driver(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", JOB)
    load({"cluster": {"device": "cuda"}, "learner": {"ranks": 4}, "trainer": {"run_dir": "/x"}})


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ({"learner": {"ranks": 4, "nodes": 3}}, "learner.ranks=4 cannot be spread evenly over learner.nodes=3"),
        (
            {"learner": {"ranks": 2, "nodes": 2}, "trainer": {"run_dir": "s3://bucket/run"}},
            "is a URL, but with learner.nodes=2 several machines write one checkpoint",
        ),
        ({"cluster": {"resources": {"sandbox": {"GPU": 1.0}}}}, "cluster.resources.sandbox has GPU=1"),
        ({"cluster": {"resources": {"engines": {"fast": 0.0}}}}, "cluster.resources.engines has fast=0"),
    ],
)
def test_what_does_not_fit_a_cluster_is_refused_with_the_remedy(values: dict, needed: str):
    assert needed in refusal(values)


def test_a_sweep_takes_no_url():
    with pytest.raises(ValueError, match="is a URL: give a sweep a path"):
        multirun(["trainer.seed=1,2", "trainer.run_dir=s3://bucket/sweep"])


def test_the_group_for_several_nodes_keeps_untrusted_code_on_nodes_of_its_own():
    cluster = compose_settings(["cluster=multi_node"]).cluster
    assert cluster.resources.sandbox == {"sandbox": 1} and not cluster.resources.engines and cluster.sandbox_strategy == "SPREAD"


def cluster_spec(file: str) -> dict:
    spec = yaml.safe_load((KUBERAY / file).read_text())
    assert spec["apiVersion"] == "ray.io/v1" and spec["kind"] == {"raycluster.yaml": "RayCluster", "rayjob.yaml": "RayJob"}[file]
    return spec["spec"] if file == "raycluster.yaml" else spec["spec"]["rayClusterSpec"]


def test_kuberay_gives_sandboxes_what_isolation_takes_and_nothing_of_the_others():
    spec = cluster_spec("raycluster.yaml")
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    pod = groups["sandbox"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["hostUsers"] is False and pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "privileged": False,
        "seccompProfile": {"type": "Unconfined"},
        "appArmorProfile": {"type": "Unconfined"},
        "procMount": "Unmasked",
    }
    assert "nvidia.com/gpu" not in container["resources"]["limits"] and "volumeMounts" not in container
    assert json.loads(json.loads(groups["sandbox"]["rayStartParams"]["resources"])) == {
        "sandbox": 8
    }  # quoted twice: for YAML and the shell
    assert "resources" not in groups["gpu"]["rayStartParams"] and groups["gpu"]["template"]["spec"].get("hostUsers") is None


def test_kuberay_has_room_for_the_recipe_that_the_job_runs():
    spec = cluster_spec("rayjob.yaml")
    job = yaml.safe_load((KUBERAY / "rayjob.yaml").read_text())["spec"]
    overrides = job["entrypoint"].split("launch.train", 1)[1].split()
    settings = compose_settings(overrides)
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    each = int(groups["gpu"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    needed = settings.learner.ranks + settings.rollout.engines * settings.rollout.tensor_parallel
    assert needed <= each * groups["gpu"]["replicas"] and settings.learner.ranks <= each * settings.learner.nodes
    mounts = {mount["mountPath"] for mount in spec["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert any(settings.trainer.run_dir.startswith(f"{mount}/") for mount in mounts) and settings.cluster.device == "cuda"
    assert json.loads(json.loads(groups["sandbox"]["rayStartParams"]["resources"]))["sandbox"] * groups["sandbox"]["replicas"] >= 8


def test_both_manifests_describe_one_cluster_with_a_token_and_our_version_of_ray():
    spec = cluster_spec("raycluster.yaml")
    assert spec == cluster_spec("rayjob.yaml") and spec["authOptions"] == {"mode": "token"}
    assert f'"ray[default]=={spec["rayVersion"]}"' in (ROOT / "setup.py").read_text()


def test_the_slurm_script_is_one_that_bash_reads():
    file = ROOT / "launch" / "cluster" / "slurm.sh"
    done = subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    text = file.read_text()
    assert "set -euo pipefail" in text and "RAY_AUTH_MODE=token" in text and "cluster=multi_node" in text


def test_what_a_job_uploads_holds_neither_the_environment_nor_earlier_runs():
    ignored = (ROOT / ".rayignore").read_text().split()
    assert {"/.venv*", "/runs", "/.git"} <= set(ignored)
