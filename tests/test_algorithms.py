"""Names of algorithms: what is offered is what it says, and the rest is refused before anything starts."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conf.schema import load
from launch.compose import load_saved
from launch.shell import load_run_settings
from tests.demo import demo_values
from trainer.algorithm.names import (
    LOSS_AGGREGATIONS,
    ONE_AGGREGATION,
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
        ("advantage", "gdpo", "needs the terms of each episode"),
        ("policy_loss", "geo_mean", "would depend on learner.micro_batch_tokens and learner.ranks: use gspo"),
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
        load(demo_values({"trainer": {"grpo": {"advantage": "gdpo", "policy_loss": "geo_mean", "loss_aggregation": "token_mean"}}}))
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
    grpo = {"advantage": "gdpo"}
    load(demo_values({"trainer": {"grpo": grpo, "stages": ["distil", "sft"]}}))
    load(demo_values({"trainer": {"grpo": grpo, "stages": ["evaluate"]}}))
    with pytest.raises(ValueError, match="advantage=gdpo"):
        load(demo_values({"trainer": {"grpo": grpo, "stages": ["grpo"]}}))


def test_every_offered_name_loads():
    for name in VERL_ESTIMATORS:
        load(demo_values({"trainer": {"grpo": {"advantage": name}}}))
    for name in VERL_LOSSES:
        load(demo_values({"trainer": {"grpo": {"policy_loss": name, "loss_aggregation": ONE_AGGREGATION.get(name, "token-mean")}}}))


def test_names_are_known_without_loading_verl():
    code = "import sys, conf.schema; sys.exit(any(name in sys.modules for name in ('verl', 'torch', 'vllm', 'ray')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
