"""The final table from end to end, with scripted policy and sandbox."""

import asyncio
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest

from reward.settings import RewardSettings
from rollout.groups.collect import Collector
from rollout.records import Group
from sandbox.records import Run, Verdict
from tests.demo import DEMO
from tests.scripted_parts import SINGLE_CALL, TEST_LOOP, ScriptedRenderer, ScriptedRunner, ScriptedSampler, problem, run
from trainer.evaluation.rows import Row
from trainer.evaluation.show import print_table, print_workers
from trainer.evaluation.table import final_table
from trainer.evaluation.trials import evaluate_policy, evaluate_workflow
from trainer.run.episodes import held_out_rows
from trainer.run.terminal import Terminal
from trainer.settings import RunSettings
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.reference import load_reference_workflows, self_consistency
from workflow.tasks import TaskSet

TEST = tuple(replace(problem(number), source="easy" if number < 9 else "hard", level=None) for number in range(12))
VALIDATION = tuple(replace(problem(100 + number), source="easy", level=None) for number in range(6))


def outcome(workflow: Workflow, one: Problem, seed: int) -> Run:
    """A loop solves all; other workflows solve what is easy; each draft is a call."""
    drafts = next((int(n) for n in range(30, 1, -1) if f"range({n})" in workflow.source and "ensemble" in workflow.source), 1)
    solved = (workflow.loops > 0 and "ensemble" not in workflow.source) or one.source == "easy"
    found = (
        run(Outcome.PASSED, passed=4, calls=drafts, seed=seed) if solved else run(Outcome.WRONG_ANSWER, passed=2, calls=drafts, seed=seed)
    )
    public = Verdict(Outcome.WRONG_ANSWER, (False,), ("no",), 0.1, "scripted") if one.id == "scripted/0" else found.verdict
    return replace(found, public=public)


class ScriptedSystem:
    """Engines, sandboxes and problems as ``trainer.system.System`` has them."""

    def __init__(self, settings: RunSettings, texts: list[str], rule=outcome) -> None:
        self.settings, self.tasks = settings, TaskSet(TEST, VALIDATION, TEST)
        self.runner, self.sampler, self.version = ScriptedRunner(rule), ScriptedSampler(texts), 0

    async def sandbox(self) -> ScriptedRunner:
        return self.runner

    async def fleet(self) -> "ScriptedSystem":
        return self

    async def publish(self, version: int, weights: object) -> None:
        self.version = version

    async def collector(self) -> Collector:
        return Collector(self.sampler, self.runner, ScriptedRenderer(), self.settings.rollout, self.settings.reward, 0)


def demo(**evaluation: Any) -> RunSettings:
    changed = DEMO.trainer.evaluation.model_copy(update={"bootstrap": 100, **evaluation})
    return DEMO.model_copy(update={"trainer": DEMO.trainer.model_copy(update={"evaluation": changed})})


def table_of(
    settings: RunSettings, tmp_path: Path, *, texts: list[str], keep=lambda name, groups: None
) -> tuple[dict[str, Row], ScriptedSystem]:
    system = ScriptedSystem(settings, texts)
    references = {name: workflow for name, workflow in load_reference_workflows().items() if name in ("single_call", "test_and_revise_2")}
    policies = {"GRPO policy": tmp_path}
    rows = asyncio.run(final_table(cast(Any, system), settings, policies, references, say=lambda text: None, keep=keep))
    return {row["name"]: row for row in rows}, system


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    return table_of(demo(sampled_completions=3, temperature=0.6), tmp_path_factory.mktemp("p"), texts=[SINGLE_CALL, TEST_LOOP])[0]


def test_a_table_has_policies_workflows_choices_a_bound_and_more_samples_for_the_same_money(table: dict[str, Row]):
    assert list(table) == [
        "GRPO policy",
        "GRPO policy (sampled)",
        "single_call",
        "test_and_revise_2",
        "best fixed workflow",
        "best reference per level",
        "hindsight bound",
        "self-consistency at equal cost",
    ]


def test_solved_counts_all_tests_and_passed_the_hidden_ones(table: dict[str, Row]):
    assert (table["single_call"]["pass_rate"], table["single_call"]["solved"]) == (0.75, round(8 / 12, 4))
    assert table["single_call"]["by_problem"]["solved"]["scripted/0"] == 0.0


def test_rows_stand_by_benchmark_and_overall_by_problems(table: dict[str, Row]):
    by = table["single_call"]["by_benchmark"]
    assert (by["easy"]["problems"], by["easy"]["pass_rate"], by["hard"]["pass_rate"]) == (9, 1.0, 0.0)
    assert table["single_call"]["pass_rate"] == pytest.approx((9 * 1.0 + 3 * 0.0) / 12)


def test_every_row_keeps_each_problems_figures(table: dict[str, Row]):
    for row in table.values():
        assert set(row["by_problem"]) == {"reward", "performance", "pass_rate", "solved", "calls", "cost", "latency"}
        assert list(row["by_problem"]["reward"]) == [one.id for one in TEST]
    assert table["single_call"]["by_problem"]["performance"]["scripted/10"] == 0.5


def test_rows_are_compared_with_the_row_that_is_asked_for(tmp_path: Path, table: dict[str, Row]):
    assert table["GRPO policy"]["minus"]["of"] == "best fixed workflow" and "minus" not in table["best fixed workflow"]
    assert table["test_and_revise_2"]["minus"]["pass_rate"] == pytest.approx(0.25)
    against, _ = table_of(demo(against="single_call", sampled_completions=0), tmp_path, texts=[SINGLE_CALL])
    assert against["GRPO policy"]["minus"]["reward"] == 0.0 and against["GRPO policy"]["minus"]["reward_p"] == 1.0
    assert against["test_and_revise_2"]["minus"]["of"] == "single_call"


def test_the_sampled_row_has_its_temperature_and_pass_at_k(tmp_path: Path, table: dict[str, Row]):
    assert table["GRPO policy (sampled)"]["temperature"] == 0.6 and "pass_at_k" not in table["GRPO policy"]
    chances = table["GRPO policy (sampled)"]["pass_at_k"]
    assert list(chances) == ["1", "2", "3"]
    # completions are single, loop, single: of the 3 hard problems 1 of 3 is right, of 8 easy ones all, of scripted/0 none
    assert chances["1"] == pytest.approx((8 + 3 / 3) / 12, abs=1e-4) and chances["2"] == pytest.approx((8 + 3 * 2 / 3) / 12, abs=1e-4)
    assert chances["3"] == pytest.approx(11 / 12, abs=1e-4)
    _, system = table_of(demo(sampled_completions=2, temperature=None), tmp_path, texts=[SINGLE_CALL])
    assert {temperature for n, temperature, _ in system.sampler.asked if n == 2} == {DEMO.rollout.temperature}


def test_self_consistency_gets_as_many_samples_as_cost_what_the_policy_costs(tmp_path: Path, table: dict[str, Row]):
    row = table["self-consistency at equal cost"]
    spent = f"{row['cost']:.3g} against {table['GRPO policy']['cost']:.3g}"
    assert row["of"] == f"1 sample, for the dollars of GRPO policy ({spent})" and row["cost"] == pytest.approx(table["GRPO policy"]["cost"])
    spends = f"```python\n{self_consistency(7).source}\n```"
    rows, _ = table_of(demo(sampled_completions=0), tmp_path, texts=[spends])
    assert rows["self-consistency at equal cost"]["of"].startswith("7 samples, for the dollars of GRPO policy (")
    assert rows["self-consistency at equal cost"]["cost"] == pytest.approx(rows["GRPO policy"]["cost"])
    without, _ = table_of(demo(sampled_completions=0, equal_cost=False), tmp_path, texts=[spends])
    assert "self-consistency at equal cost" not in without


def test_choices_say_how_far_they_can_be_trusted(table: dict[str, Row]):
    choice = table["best fixed workflow"]["choice"]
    assert table["best fixed workflow"]["of"] == "single_call" and choice["problems"] == 6 and choice["runs"] == 24
    assert choice["noise"] == 0.0 and choice["optimism"] > 0.0, "on validation all is easy"
    assert table["best reference per level"]["of"] == {"easy, with examples": "single_call", "hard, with examples": "single_call"}
    assert table["hindsight bound"]["pass_rate"] == 1.0 and table["hindsight bound"]["kind"] == "bound"


def test_choosing_costs_no_more_runs_than_the_test_problems_unless_it_is_told_so(tmp_path: Path):
    for limit, runs in ((None, 2 * 6 * 1), (4, 4)):
        settings = demo(sampled_completions=0, choice_runs=1, choice_max_runs=limit)
        assert table_of(settings, tmp_path, texts=[SINGLE_CALL])[0]["best fixed workflow"]["choice"]["runs"] == runs


def test_held_out_episodes_are_kept_with_workflow_answer_and_verdicts(tmp_path: Path):
    kept: dict[str, list[Group]] = {}
    table_of(demo(sampled_completions=2), tmp_path, texts=[SINGLE_CALL], keep=lambda name, groups: kept.update({name: list(groups)}))
    assert {name: len(groups[0].episodes) for name, groups in kept.items()} == {"GRPO policy": 1, "GRPO policy (sampled)": 2}
    row = held_out_rows("GRPO policy", kept["GRPO policy"], 300)[0]
    assert (row["row"], row["problem"], row["benchmark"], row["outcome"]) == ("GRPO policy", "scripted/0", "easy", "passed")
    assert "self.generate" in row["text"] and row["runs"][0]["answer"].startswith("answer")
    assert row["runs"][0]["tests"] == (True,) * 4 and row["runs"][0]["public_tests"] == (False,)


@pytest.mark.parametrize("share", [True, False])
async def test_a_policy_and_a_fixed_workflow_meet_the_same_worker_seeds(share: bool):
    settings = DEMO.rollout.model_copy(update={"share_runs": share, "group_size": 3})
    mine, fixed = ScriptedRunner(outcome), ScriptedRunner(outcome)
    collector = Collector(ScriptedSampler([SINGLE_CALL]), mine, ScriptedRenderer(), settings, RewardSettings(), 0)
    await evaluate_policy(collector, [problem()], tag="test", runs=2)
    workflow = load_reference_workflows()["single_call"]
    await evaluate_workflow(workflow, fixed, [problem()], RewardSettings(), tag="test", runs=2, seed=0)
    assert [seed for *_, seed in mine.runs] == [seed for *_, seed in fixed.runs]
    sampled = ScriptedRunner(outcome)
    collector.runner = sampled
    await evaluate_policy(collector, [problem()], tag="test", runs=2, completions=3, temperature=1.0)
    seeds = [seed for *_, seed in sampled.runs]
    assert len(set(seeds)) == 6 and seeds[:2] == [seed for *_, seed in fixed.runs], "equal workflows are as many tries"


def test_the_printed_table_is_short_and_says_what_each_row_is(table: dict[str, Row]):
    out = StringIO()
    print_table(list(table.values()), Terminal(file=out, width=200), without={"test_and_revise_2"})
    said = out.getvalue()
    assert said.count("test_and_revise_2") == 0 and "1 more fixed workflow in results.json" in said
    assert "GRPO policy (sampled): pass@1 0.750, pass@2 0.833, pass@3 0.917" in said
    assert "best fixed workflow: chosen on 6 validation problems (its reward there minus here: +0.125); chance costs this 0.000" in said
    assert "self-consistency at equal cost: 1 sample, for the dollars of GRPO policy" in said
    assert "hindsight bound: the best fixed workflow of each problem, picked after the fact" in said
    assert "Solved by all tests of a problem, by benchmark" in said


def test_several_workers_make_a_matrix(table: dict[str, Row]):
    out = StringIO()
    rows = [row | {"worker": worker} for worker in ("small", "large") for row in table.values()]
    print_workers(rows[:-1], Terminal(file=out, width=120))
    lines = {line.split("│")[1].strip(): line for line in out.getvalue().splitlines() if line.startswith("│")}
    assert "small" in out.getvalue() and lines["single_call"].count("66.7%") == 2 and "lost" in lines["self-consistency at equal cost"]
