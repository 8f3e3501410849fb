"""Alarms and the limit of spending: what a run says of itself, and when it stops."""

from pathlib import Path

import pytest

from trainer.metrics.alarms import RULES, Alarms
from trainer.metrics.settings import AlarmSettings
from trainer.metrics.spending import Spending

GOOD = {"workflow/valid": 0.97, "workflow/topology_entropy": 1.5, "tests/gap": 0.1, "actor/kl": 0.1, "actor/rollout_gap_mean": 1e-6}
GOOD |= {"infra/masked_share": 0.0, "workflow/distinct": 0.2, "actor/rollout_kl": 1e-4, "engines/slowest_share": 0.9}
GOOD |= {"workflow/no_worker": 0.0, "worker/truncated": 0.02}
BAD = {"workflow/valid": 0.2, "workflow/topology_entropy": 0.0, "tests/gap": 0.9, "actor/kl": 9.0, "actor/rollout_gap_mean": 0.5}
BAD |= {"infra/masked_share": 0.6, "workflow/distinct": 0.005, "actor/rollout_kl": 0.7, "engines/slowest_share": 0.05}
BAD |= {"workflow/no_worker": 0.8, "worker/truncated": 0.5}


def test_a_sound_run_raises_nothing():
    alarms = Alarms(AlarmSettings())
    assert [alarms.check(GOOD) for _ in range(20)] == [({}, [])] * 20


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_alarm_begins_once_with_its_reason_and_ends_once(rule):
    alarms = Alarms(AlarmSettings(window=3))
    bad, good = GOOD | {rule.metric: BAD[rule.metric]}, GOOD
    began = [alarms.check(bad) for _ in range(6)]
    assert [len(said) for _, said in began] == [0, 0, 1, 0, 0, 0]
    assert began[2][1][0].startswith(f"ALARM {rule.name}: {rule.metric} is") and rule.meaning in began[2][1][0]
    assert [raised for raised, _ in began[2:]] == [{f"alarm/{rule.name}": 1.0}] * 4
    ended = [alarms.check(good) for _ in range(6)]
    assert [sentence for _, said in ended for sentence in said] == [sentence for _, said in ended for sentence in said][:1]
    assert ended[-1] == ({}, []) and any("is over" in sentence for _, said in ended for sentence in said)


def test_one_odd_batch_raises_nothing():
    alarms = Alarms(AlarmSettings())
    said = [alarms.check(BAD if step == 8 else GOOD)[1] for step in range(20)]
    assert [sentence for sentences in said for sentence in sentences if "invalid" in sentence or "masked" in sentence] == []


def test_metrics_that_a_run_does_not_have_raise_nothing():
    alarms = Alarms(AlarmSettings(window=1))
    assert alarms.check({"workflow/valid": 1.0}) == ({}, [])


@pytest.mark.parametrize("resumed_after", range(1, 12))
def test_a_resume_at_any_step_neither_loses_an_alarm_nor_tells_it_twice(resumed_after: int):
    steps = [GOOD] * 2 + [BAD] * 5 + [GOOD] * 5
    settings = AlarmSettings(window=3)
    whole = Alarms(settings)
    expected = [whole.check(metrics) for metrics in steps]
    assert sum(len(said) for _, said in expected) == 2 * len(RULES)
    rows = [metrics | raised for metrics, (raised, _) in zip(steps, expected, strict=True)]
    again = Alarms(settings, rows[:resumed_after])
    assert [again.check(metrics) for metrics in steps[resumed_after:]] == expected[resumed_after:]


def test_a_metric_that_was_not_finite_is_one_again_after_a_resume():
    again = Alarms(AlarmSettings(window=2), [{"workflow/valid": None}])
    assert again.check({"workflow/valid": 0.0}) == ({}, [])


def spending(folder: Path, limit: float | None, *steps: float) -> Spending:
    return Spending(folder, limit, [{"spend/dollars": cost} for cost in steps])


def test_a_run_pauses_before_the_step_that_would_overspend(tmp_path: Path):
    spent = spending(tmp_path, 1.0, 0.2, 0.3)
    assert not spent.overspends()
    spent.add(0.25)
    assert spent.overspends() and spent.dollars == pytest.approx(0.75)
    sentence = str(spent.pause(3))
    assert "trainer.max_dollars=1 is nearly spent: 0.75 dollars after step 3" in sentence and f"trainer.run_dir={tmp_path}" in sentence


def test_without_a_limit_nothing_pauses(tmp_path: Path):
    assert not spending(tmp_path, None, 1e9).overspends()


def test_what_earlier_sessions_spent_counts(tmp_path: Path):
    assert spending(tmp_path, 1.0, 0.6, 0.6).overspends()


def test_what_was_spent_on_steps_that_are_done_again_counts(tmp_path: Path):
    spent = Spending(tmp_path, 1.0, [{"spend/dollars": 0.1}], rolled_back_dollars=0.75)
    assert spent.dollars == pytest.approx(0.85) and not spent.overspends()
    spent.add(0.1)
    assert spent.overspends()
