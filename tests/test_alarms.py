"""Alarms and the limit of spending: what a run says of itself, and when it stops."""

import json
from pathlib import Path

import pytest

from trainer.alarms import RULES, Alarms
from trainer.settings import AlarmSettings
from trainer.spending import Spending

GOOD = {"workflow/valid": 0.97, "workflow/topology_entropy": 1.5, "tests/gap": 0.1, "actor/kl": 0.1, "actor/rollout_gap_mean": 1e-6}
GOOD |= {"infra/masked_share": 0.0, "workflow/distinct": 0.2, "actor/rollout_kl": 1e-4, "engines/slowest_share": 0.9}
BAD = {"workflow/valid": 0.2, "workflow/topology_entropy": 0.0, "tests/gap": 0.9, "actor/kl": 9.0, "actor/rollout_gap_mean": 0.5}
BAD |= {"infra/masked_share": 0.6, "workflow/distinct": 0.005, "actor/rollout_kl": 0.7, "engines/slowest_share": 0.05}


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


def spending(folder: Path, limit: float | None, *steps: float) -> Spending:
    rows = [{"stage": "sft", "step": 0}, *({"stage": "grpo", "step": n, "spend/dollars": cost} for n, cost in enumerate(steps))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Spending(folder, limit)


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
