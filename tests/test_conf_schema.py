"""Settings: every problem is one sentence with the name, the value and the remedy."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.schema import defaults, list_settings, load
from conf.sentences import nearest_setting
from tests.demo import demo_values
from trainer.settings import RunSettings

NAMES = [name for name, _, _ in list_settings()]


def refusal(values: dict) -> list[str]:
    with pytest.raises(ValueError) as caught:
        load(demo_values(values))
    return str(caught.value).splitlines()


REQUIRED = {
    "model": {"path": "owner/name"},
    "tasks": {"name": "humaneval"},
    "worker": {"base_url": "http://localhost:8000/v1", "model": "m"},
    "distil": {"base_url": "http://localhost:8000/v1", "model": "t"},
    "cluster": {"device": "cpu"},
}
"""What a real run must say."""


def test_nothing_given_asks_for_what_no_default_can_know():
    with pytest.raises(ValueError) as caught:
        load({})
    assert [sentence.split()[0] for sentence in str(caught.value).splitlines()] == [
        "model.path",
        "tasks.name='jsonl'",
        "worker.base_url",
        "worker.model",
        "distil.base_url",
        "distil.model",
    ]


def test_what_is_not_given_keeps_its_declared_default_also_as_plain_values():
    given = load(REQUIRED)
    assert given.model_dump() == RunSettings.model_validate(REQUIRED).model_dump()
    assert load(given.model_dump(mode="json")) == given and json.dumps(defaults())


def test_an_endpoint_is_needed_by_the_worker_always_and_by_the_teacher_where_there_is_something_to_distil():
    without = REQUIRED | {"distil": {}, "trainer": {"stages": ["sft", "grpo"]}}
    assert load(without).distil.base_url is None


def test_the_sentence_under_a_setting_is_its_description():
    described = {name: description for name, _, description in list_settings()}
    assert described["rollout.group_size"] == "Completions per problem; group-relative advantages need at least 2."


@pytest.mark.parametrize(
    ("values", "right"),
    [
        ({"trainer": {"sede": 1}}, "trainer.seed"),
        ({"trainr": {"seed": 1}}, "trainer.seed"),
        ({"group_size": 4}, "rollout.group_size"),
        ({"trainer": {"grpo": {"stpes": 4}}}, "trainer.grpo.steps"),
        ({"sandbox": {"limits": {"memory_mb": 4}}}, "sandbox.limits.memory_mib"),
        ({"reward": {"weight": {"calls": 0}}}, "reward.weights.calls"),
    ],
)
def test_a_misspelt_setting_is_answered_with_the_nearest_right_one(values, right):
    (line,) = refusal(values)
    assert f"did you mean {right}?" in line


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ({"trainer": {"seed": "x"}}, "trainer.seed='x' has the wrong type: it must be a whole number."),
        ({"trainer": {"seed": True}}, "trainer.seed=true has the wrong type"),
        ({"trainer": {"seed": 1.5}}, "trainer.seed=1.5 has the wrong type"),
        ({"logger": {"tensorboard": "yes"}}, "logger.tensorboard='yes' has the wrong type: it must be true or false."),
        ({"worker": {"model": 7}}, "worker.model=7 has the wrong type: it must be a text"),
        ({"worker": 3}, "worker=3 has the wrong type: it must be a group of settings."),
        ({"trainer": {"stages": ["sftt"]}}, "the nearest is sft"),
        ({"trainer": {"sft": {"optimizer": {"betas": [0.9]}}}}, "trainer.sft.optimizer.betas has too few entries"),
    ],
)
def test_an_ill_typed_setting_is_refused_with_its_name_and_value(values, needed):
    (line,) = refusal(values)
    assert needed in line


def test_a_group_of_one_is_refused_with_the_reason():
    (line,) = refusal({"rollout": {"group_size": 1}})
    assert line.startswith("rollout.group_size=1 must be at least 2") and "group-relative advantages" in line


def test_a_whole_number_may_stand_for_a_float():
    assert load(demo_values({"reward": {"floor": -1}})).reward.floor == -1.0


def test_all_problems_come_at_once():
    lines = refusal({"trainer": {"seed": "x", "sede": 1}, "rollout": {"group_size": 1}})
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ({"model": {"path": "/no/such/folder"}}, "model.path='/no/such/folder' does not exist"),
        ({"model": {"path": "nanoo"}}, "model.path='nanoo' does not exist: give 'nano'"),
        ({"tasks": {"name": "jsonl"}}, "set tasks.path"),
        ({"tasks": {"name": "humaneval", "path": "/no/file"}}, "tasks.path='/no/file' is not a file"),
        ({"model": {"path": "no_such_module:make"}}, "model.path=no_such_module:make cannot be imported"),
        ({"worker": {"provider": "endpoint", "base_url": "localhost:8000", "model": "m"}}, "must start with http://"),
        ({"worker": {"provider": "endpoint", "base_url": "http://localhost:8000/v1", "model": ""}}, "set worker.model"),
        ({"worker": {"provider": "endpoint"}}, "worker.base_url is not set: give an endpoint like http://localhost:8000/v1"),
        ({"worker": {"provider": "endpont"}}, "worker.provider=endpont is unknown; the nearest is endpoint"),
        ({"distil": {"provider": "simulate"}}, "distil.provider=simulate is unknown; the nearest is simulated"),
        ({"worker": {"base_url": "http://localhost:8000/v1"}}, "worker.provider=simulated starts an endpoint of its own"),
        ({"learner": {"micro_batch_tokens": 100}}, "set it to at least 288"),
        ({"reward": {"floor": 0.1}}, "reward.floor=0.1 must be at most 0"),
        ({"reward": {"floor": float("nan")}}, "reward.floor=nan must be at most 0"),
        ({"reward": {"weights": {"performance": -0.5}}}, "reward.weights.performance=-0.5 must be at least 0"),
        ({"trainer": {"grpo": {"updates_per_step": 5}}}, "192 episodes cannot be cut evenly"),
        ({"learner": {"ranks": 5}, "trainer": {"grpo": {"problems_per_step": 5}}}, "is no multiple of learner.ranks=5"),
        ({"rollout": {"temperature": 0}}, "nothing to compare"),
        ({"trainer": {"late_share": 0.25}}, "trainer.max_staleness=0 allows no group to be older"),
        ({"rollout": {"rounds": 10}, "learner": {"micro_batch_tokens": 1700}}, "the feedback between rounds make 1728"),
        ({"distil": {"max_requests": 10}}, "distil.max_requests=10 is below distil.traces=3000"),
        ({"trainer": {"grpo": {"rollout_is": "token"}}}, "rollout_is=token compares"),
        ({"trainer": {"grpo": {"rollout_rs": "geometric"}}}, "set it to recompute"),
        ({"learner": {"offload_optimizer": True}, "cluster": {"device": "cpu"}}, "set it to false"),
        ({"trainer": {"stages": []}}, "trainer.stages is empty"),
        ({"trainer": {"stages": ["grpo", "sft"]}}, "write [sft,grpo]"),
        ({"trainer": {"run_dir": " "}}, "trainer.run_dir is empty"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(values, needed):
    (line,) = refusal(values)
    assert needed in line


def test_a_folder_without_config_json_is_no_model(tmp_path: Path):
    (line,) = refusal({"model": {"path": str(tmp_path)}})
    assert "without config.json" in line


def test_a_hugging_face_folder_or_hub_id_is_a_model(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    assert load(demo_values({"model": {"path": str(tmp_path)}})).model.path == str(tmp_path)
    assert load(demo_values({"model": {"path": "owner/some-model.1"}})).model.path == "owner/some-model.1"


def test_cuda_asked_for_by_name_counts_the_gpus_of_this_machine():
    import torch

    ranks = torch.cuda.device_count() + 1
    (line,) = refusal(
        {
            "cluster": {"device": "cuda"},
            "learner": {"ranks": ranks},
            "trainer": {"grpo": {"problems_per_step": ranks}, "sft": {"batch_size": ranks}},
        }
    )
    assert f"needs {ranks + 1} GPUs" in line  # and one for the engine


@given(st.sampled_from(NAMES), st.integers(0, 40), st.sampled_from("abcxyz_"))
def test_one_wrong_letter_still_finds_the_setting(name: str, position: int, letter: str):
    leaf = name.rpartition(".")[2]
    if len(leaf) < 5:
        return
    at = position % len(leaf)
    misspelt = name[: len(name) - len(leaf)] + leaf[:at] + letter + leaf[at + 1 :]
    if misspelt in NAMES:
        return
    found = nearest_setting(misspelt, NAMES)
    assert found is not None and found.rpartition(".")[0] == name.rpartition(".")[0]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["seed", "x", "grpo", "trainer"]), inner, max_size=2),
        max_leaves=6,
    )
)
def test_no_value_makes_anything_but_settings_or_sentences(value):
    try:
        load({"trainer": value})
    except ValueError as error:
        assert all(line and "\n" not in line for line in str(error).splitlines())
    assert json.dumps(defaults())
