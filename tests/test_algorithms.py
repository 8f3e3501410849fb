"""Names of algorithms: what is offered is what it says, and the rest is refused before anything starts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conf.schema import load
from launch.compose import CONF, compose_settings, load_saved
from launch.shell import load_run_settings
from tests.demo import demo_values
from trainer.algorithm.names import (
    LOSS_AGGREGATIONS,
    ONE_AGGREGATION,
    OUR_ESTIMATORS,
    OUR_LOSSES,
    REFUSED_ESTIMATORS,
    REFUSED_LOSSES,
    VERL_ESTIMATORS,
    VERL_LOSSES,
    check_names,
)
from trainer.settings import GRPOSettings


@pytest.mark.parametrize(
    ("setting", "name", "near"),
    [
        ("advantage", "reinforce_plus_plus_base", "reinforce_plus_plus_baseline"),
        ("advantage", "gpro", "grpo"),
        ("policy_loss", "gsppo", "gspo"),
        ("loss_aggregation", "token_mean", "token-mean"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(setting, name, near):
    with pytest.raises(ValueError, match=rf"{setting}={name} is unknown(; the nearest is|: did you mean) {near}\b"):
        check_names(GRPOSettings(**{setting: name}))


@pytest.mark.parametrize(
    ("setting", "name", "reason"),
    [
        ("advantage", "gae", "needs values"),
        ("advantage", "remax", "needs reward_baselines"),
        ("policy_loss", "kl_cov", "would depend on learner.micro_batch_tokens"),
        ("policy_loss", "clip_cov", "would depend on learner.micro_batch_tokens"),
    ],
)
def test_a_name_that_would_not_be_what_it_says_is_refused_with_the_reason(setting, name, reason):
    with pytest.raises(ValueError, match=f"^trainer.grpo.{setting}={name} .*{reason}"):
        check_names(GRPOSettings(**{setting: name}))


@pytest.mark.parametrize("setting", ["advantage", "policy_loss"])
def test_every_refusal_names_something_that_is_offered_instead(setting):
    refused, offered = (REFUSED_ESTIMATORS, VERL_ESTIMATORS) if setting == "advantage" else (REFUSED_LOSSES, VERL_LOSSES)
    for reason in refused.values():
        assert "use " in reason and any(name in reason.split("use ", 1)[1] for name in offered)


def test_a_loss_that_knows_one_aggregation_is_refused_with_any_other():
    for loss, only in ONE_AGGREGATION.items():
        for aggregation in LOSS_AGGREGATIONS:
            settings = GRPOSettings(policy_loss=loss, loss_aggregation=aggregation)
            if aggregation == only:
                check_names(settings)
            else:
                with pytest.raises(ValueError, match=f"policy_loss={loss} is always .*: set loss_aggregation={only}"):
                    check_names(settings)


def test_names_are_checked_with_the_settings_before_anything_starts():
    with pytest.raises(ValueError) as caught:
        load(demo_values({"trainer": {"grpo": {"advantage": "remax", "policy_loss": "kl_cov", "loss_aggregation": "token_mean"}}}))
    assert [line.split("=")[0] for line in str(caught.value).splitlines()] == [
        f"trainer.grpo.{setting}" for setting in ("advantage", "policy_loss", "loss_aggregation")
    ]


@pytest.mark.parametrize(
    "trained_with",
    [
        *({"trainer": {"grpo": {"advantage": name}}} for name in REFUSED_ESTIMATORS),
        *({"trainer": {"grpo": {"policy_loss": name}}} for name in (*REFUSED_LOSSES, "sapo", "no_longer_known")),
        {"trainer": {"grpo": {"loss_aggregation": "no-longer-known"}}},
        {"reward": {"floor": 0.1}},
        {"learner": {"micro_batch_tokens": 100}},
    ],
    ids=str,
)
def test_a_finished_run_is_used_whatever_it_was_trained_with(trained_with, tmp_path: Path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(demo_values(trained_with)))
    load_run_settings(tmp_path)
    with pytest.raises(ValueError, match=r"trainer\.grpo|reward\.floor|micro_batch_tokens"):
        load_saved(tmp_path)


def test_names_of_grpo_are_checked_where_grpo_is_to_run():
    grpo = {"advantage": "remax"}
    load(demo_values({"trainer": {"grpo": grpo, "stages": ["distil", "sft"]}}))
    load(demo_values({"trainer": {"grpo": grpo, "stages": ["evaluate"]}}))
    with pytest.raises(ValueError, match="advantage=remax"):
        load(demo_values({"trainer": {"grpo": grpo, "stages": ["grpo"]}}))


def test_every_offered_name_loads():
    for name in VERL_ESTIMATORS | OUR_ESTIMATORS:
        load(demo_values({"trainer": {"grpo": {"advantage": name}}}))
    for name in VERL_LOSSES | OUR_LOSSES:
        args = {"dro_beta": 0.1} if name == "dro" else {}
        grpo = {"policy_loss": name, "loss_aggregation": ONE_AGGREGATION.get(name, "token-mean"), "loss_args": args}
        load(demo_values({"trainer": {"grpo": grpo}}))


@pytest.mark.parametrize(
    ("grpo", "said"),
    [
        ({"loss_args": {"clip_ratioc": 3.0}}, r"loss_args.clip_ratioc is unknown: did you mean clip_ratio_c\?"),
        ({"loss_args": {"tau_pos": 1.0}}, "loss_args.tau_pos is read by sapo, not by trainer.grpo.policy_loss=vanilla: leave it out"),
        ({"loss_args": {"clip_ratio_c": 1.0}}, "loss_args.clip_ratio_c=1 must be more than 1"),
        ({"policy_loss": "dro"}, "policy_loss=dro needs trainer.grpo.loss_args.dro_beta"),
        ({"kl_kind": "k1"}, "kl_kind=k1 is no estimator for trainer.grpo.kl_in=loss: choose one of k2,"),
        ({"kl_kind": "low_var"}, "kl_kind=low_var is no estimator for trainer.grpo.kl_in=loss: choose one of k2,"),
        ({"kl_in": "reward"}, r"kl_kind=k3\+ is no estimator for trainer.grpo.kl_in=reward: choose one of k1,"),
    ],
    ids=str,
)
def test_what_the_loss_cannot_use_is_refused_with_a_remedy(grpo: dict, said: str):
    with pytest.raises(ValueError, match=said):
        load(demo_values({"trainer": {"grpo": grpo}}))


def test_without_a_weight_no_estimator_of_the_kl_is_asked_for():
    load(demo_values({"trainer": {"grpo": {"kl_coef": 0.0, "kl_in": "reward"}}}))


def test_grpo_is_refused_where_engines_would_report_other_probabilities_than_the_learner():
    nucleus = {"rollout": {"top_p": 0.95}}
    with pytest.raises(ValueError, match=r"^rollout\.top_p=0.95 .*would not be the learner's: set it to 1.0"):
        load(demo_values(nucleus))
    load(demo_values(nucleus | {"trainer": {"stages": ["evaluate"]}}))


def test_gdpo_needs_a_weight_of_the_performance():
    with pytest.raises(ValueError, match=r"advantage=gdpo .*reward\.weights.performance=0"):
        load(demo_values({"trainer": {"grpo": {"advantage": "gdpo"}}, "reward": {"weights": {"performance": 0.0}}}))


@pytest.mark.parametrize("preset", sorted(file.stem for file in (CONF / "algorithm").glob("*.yaml")))
def test_a_preset_beats_the_trainers_group_in_a_demo_and_in_the_papers_recipe(preset: str):
    for overrides in ([], ["experiment=flowreasoner_7b", "cluster.device=cpu"]):
        before, after = (compose_settings([*overrides, *more]) for more in ([], [f"algorithm={preset}"]))
        written = yaml.safe_load((CONF / "algorithm" / f"{preset}.yaml").read_text())
        assert {name: getattr(after.trainer.grpo, name) for name in written} == written
        assert after.trainer.grpo.steps == before.trainer.grpo.steps and after.trainer.grpo.optimizer == before.trainer.grpo.optimizer
        assert re.search(r"arXiv 2\d{3}\.\d{5}", (CONF / "algorithm" / f"{preset}.yaml").read_text())


def test_names_are_known_without_loading_verl():
    code = "import sys, conf.schema; sys.exit(any(name in sys.modules for name in ('verl', 'torch', 'vllm', 'ray')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
