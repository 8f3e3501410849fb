"""What ``trainer.grpo.credit`` takes of other settings."""

import pytest

from conf.algorithm_checks import problems_of_credit
from tests.demo import DEMO, demo_values
from trainer.settings import RunSettings


def problems(changes) -> list[str]:
    return list(problems_of_credit(RunSettings(**demo_values(changes))))


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"trainer": {"grpo": {"credit": "round"}}}, "set rollout.rounds to 2 or more"),
        ({"trainer": {"grpo": {"credit": "span"}}, "worker": {"cache_entries": 0}}, "set worker.cache_entries to 1000 or more"),
        ({"trainer": {"grpo": {"credit": "span", "policy_loss": "geo_mean"}}}, "use another policy_loss"),
        ({"trainer": {"grpo": {"credit": "round", "advantage": "gdpo"}}, "rollout": {"rounds": 2}}, "use advantage=grpo"),
    ],
)
def test_credit_that_cannot_be_given_is_refused(changes, needed: str):
    (line,) = problems(changes)
    assert needed in line


def test_credit_that_can_be_given_is_not():
    assert list(problems_of_credit(DEMO)) == []
    assert problems({"trainer": {"grpo": {"credit": "round"}}, "rollout": {"rounds": 2}}) == []
    assert problems({"trainer": {"grpo": {"credit": "span"}}}) == []
