"""conf/: every file composes, and an experiment is what its name says."""

import re

import pytest
import yaml

from launch.compose import CONF, GROUPS, compose_settings

OPTIONS = [(folder, file.stem) for folder in GROUPS for file in sorted((CONF / folder).glob("*.yaml"))]
NEEDS = {
    ("tasks", "jsonl"): "set tasks.path",
    ("tasks", "hub"): "set tasks.path",
    ("tasks", "mixture"): "name them in tasks.mixture",
    ("model", "local"): "model.path is not set",
    ("experiment", "own"): "model.path is not set",
}


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_every_option_of_every_group_composes(group: str, option: str):
    overrides = [f"{group}={option}", "cluster.device=cpu"]
    if group == "learner" and option != "default":
        overrides += ["trainer=paper", "rollout=paper"]
    if (group, option) in NEEDS:
        with pytest.raises(ValueError, match=NEEDS[group, option]):
            compose_settings(overrides)
    else:
        compose_settings(overrides)


def test_a_set_may_bring_the_limits_of_its_own_harness():
    assert compose_settings(["tasks=livecodebench"]).sandbox.limits.wall_s == 12
    assert compose_settings(["tasks=livecodebench", "sandbox.limits.wall_s=3"]).sandbox.limits.wall_s == 3


def test_the_default_is_the_embedded_one():
    config = compose_settings()
    assert (config.model.path, config.worker.provider, config.distil.provider, config.tasks.name) == (
        "nano",
        "simulated",
        "simulated",
        "nano",
    )
    assert config == compose_settings(["experiment=nano"]).model_copy(update={"trainer": config.trainer})


@pytest.mark.parametrize(("size", "learner", "engines"), [("7b", 4, 4), ("14b", 8, 4)])
def test_the_papers_experiments_have_its_published_settings(size: str, learner: int, engines: int):
    config = compose_settings([f"experiment=flowreasoner_{size}", "cluster.device=cpu"])
    assert config.model.path == f"deepseek-ai/DeepSeek-R1-Distill-Qwen-{size.upper()}"
    assert (config.worker.model, config.distil.model, config.trainer.grpo.advantage) == ("o1-mini", "deepseek-reasoner", "grpo")
    assert (config.learner.ranks, config.rollout.engines * config.rollout.tensor_parallel) == (learner, engines)
    needs = f"# Needs {learner + engines} GPUs of 80 GB ({learner} "
    assert needs in (CONF / "experiment" / f"flowreasoner_{size}.yaml").read_text(), "the comment says what the recipe asks for"
    assert config.reward.weights.calls == 0.0


@pytest.mark.parametrize(("size", "billions"), [("7b", 7.6), ("14b", 14.8)])
def test_the_papers_learners_fit_their_gpus(size: str, billions: float):
    """Masters, two moments, the reference and gradients in float32, shared out over the ranks; the rest does not shrink with them."""
    config = compose_settings([f"experiment=flowreasoner_{size}", "cluster.device=cpu"])
    assert config.learner.engine == "fsdp2" and config.learner.gradient_checkpointing and config.learner.micro_batch_tokens <= 20_480
    assert config.learner.engine_args == {}, "gradients are shared out between micro-batches too"
    layers_activations_context = {"7b": 3.1 + 19.4 + 2, "14b": 4.2 + 24.0 + 2}[size]
    assert 5 * 4 * billions / config.learner.ranks + layers_activations_context < 80


@pytest.mark.parametrize("size", ["7b", "14b"])
@pytest.mark.parametrize(
    "more", [[], ["trainer.max_staleness=0"], ["trainer.max_staleness=2", "trainer.late_share=0.25"], ["rollout.rounds=1"]]
)
def test_an_update_of_the_papers_policy_waits_for_no_completion(size: str, more: list[str]):
    assert compose_settings([f"experiment=flowreasoner_{size}", "cluster.device=cpu", *more]).rollout.in_flight == "continue"


@pytest.mark.parametrize(
    "file",
    [
        "trainer/paper",
        "rollout/paper",
        "model/r1_distill_qwen_7b",
        "model/r1_distill_qwen_14b",
        "learner/fsdp2_4",
        "learner/fsdp2_8",
        "learner/deepspeed_zero3_4",
    ],
)
def test_numbers_that_the_paper_does_not_give_say_so(file: str):
    lines = (CONF / f"{file}.yaml").read_text().splitlines()
    numbers = [line for line in lines if re.match(r"\s*\w+: \[?-?[\d.]+", line) and not line.startswith("ranks")]
    assert numbers
    assert [line for line in numbers if "# paper" not in line] == []


def test_a_group_chosen_on_the_command_line_beats_the_experiment():
    assert compose_settings(["trainer=smoke"]).trainer.grpo.steps == 3
    assert compose_settings(["experiment=flowreasoner_7b", "worker=openai", "cluster.device=cpu"]).worker.model == "gpt-4o-mini"


def test_a_value_on_the_command_line_beats_everything():
    assert compose_settings(["trainer=smoke", "trainer.grpo.steps=7"]).trainer.grpo.steps == 7


def test_every_yaml_file_is_plain_yaml():
    for file in CONF.rglob("*.yaml"):
        loaded = yaml.safe_load(file.read_text())
        assert loaded is None or isinstance(loaded, dict), file


@pytest.mark.parametrize(
    ("override", "needed"),
    [
        ("experiment=nanoo", "did you mean nano?"),
        ("experimnt=nano", "did you mean experiment?"),
        ("trainer.seed=[1", "Cannot read 'trainer.seed=[1'"),
        ("seed", "'seed' is no setting"),
        ("trainer.seed=${nope}", "trainer.seed cannot be resolved"),
        ("trainer.seed=1,2", "trainer.seed=1,2 gives several values: add -m for a sweep over them, or write 'trainer.seed=[1,2]'"),
        ("rollout.temperature=range(0,2)", "rollout.temperature=range(0,2) gives several values: add -m"),
        ("reward=calls,dollars", "reward=calls,dollars gives several values: add -m for a sweep over them, or give one."),
        ("worker=azure", "options: local, o1_mini, openai, simulated"),
    ],
)
def test_a_bad_override_is_one_sentence(override: str, needed: str):
    with pytest.raises(ValueError) as caught:
        compose_settings([override])
    assert needed in str(caught.value) and "\n" not in str(caught.value)


def test_options_of_engines_pass_through_untouched():
    config = compose_settings(["rollout.engine_args.max_num_seqs=32", "learner.engine_args={reshard: true}"])
    assert config.rollout.engine_args == {"max_num_seqs": 32} and config.learner.engine_args == {"reshard": True}


def test_each_run_gets_a_folder_named_by_its_time():
    assert re.fullmatch(r"runs/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", compose_settings().trainer.run_dir)
