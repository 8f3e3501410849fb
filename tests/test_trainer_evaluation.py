"""Evaluation: trials, choices, intervals, rows."""

from dataclasses import replace
from io import StringIO

import pytest

from reward.score import Score
from reward.settings import RewardSettings, RewardWeights
from rollout.records import Episode, Group, Round
from sandbox.records import Verdict
from tests.scripted_parts import SINGLE_CALL, TEST_LOOP, ScriptedRunner, completion, problem, run
from trainer.algorithm.data_order import problem_at, tag_at
from trainer.evaluation.rows import minus, refuse_if_all_lost, result_row
from trainer.evaluation.show import print_table
from trainer.evaluation.trials import Trial, Trials, evaluate_workflow, trials_of_groups
from trainer.metrics.step import group_metrics
from trainer.run.episodes import episode_rows
from trainer.run.terminal import Terminal
from trainer.settings import EvaluationSettings
from workflow.language.parse import parse_workflow
from workflow.outcome import Outcome, RunFailedError
from workflow.program import Refusal, Workflow

SETTINGS = EvaluationSettings(bootstrap=200)


def trial(number: int, reward: float, *, level: int = 1, examples: bool = True) -> Trial:
    return Trial(problem(number, level=level, examples=examples), reward, pass_rate=reward, solved=reward, calls=1.0, cost=0.001)


def workflow(text: str) -> Workflow:
    parsed = parse_workflow(text)
    assert isinstance(parsed, Workflow)
    return parsed


async def test_a_workflow_is_run_the_asked_number_of_times_on_every_problem():
    runner = ScriptedRunner(lambda *_: run(Outcome.PASSED, passed=4))
    asked = [problem(0), problem(1)]
    trials = (await evaluate_workflow(workflow(SINGLE_CALL), runner, asked, RewardSettings(), tag="t", runs=3, seed=0)).known
    assert len(runner.runs) == 6 and [t.pass_rate for t in trials] == [1.0, 1.0]
    assert trials[0].reward == pytest.approx(1.0) and trials[0].calls == 1.0


async def test_different_workflows_meet_the_same_worker_seeds():
    seeds = []
    for text in (SINGLE_CALL, TEST_LOOP):
        runner = ScriptedRunner(lambda *_: run(Outcome.PASSED, passed=4))
        await evaluate_workflow(workflow(text), runner, [problem(0)], RewardSettings(), tag="t", runs=2, seed=0)
        seeds.append([seed for _, _, seed in runner.runs])
    assert seeds[0] == seeds[1]


async def test_a_problem_lost_to_infrastructure_is_left_out_not_counted_as_failed():
    def rule(workflow, asked, seed):
        lost = run(Outcome.INFRA_ERROR)
        lost = replace(lost, execution=replace(lost.execution, error="the endpoint is gone"))
        return lost if asked.id.endswith("/1") else run(Outcome.PASSED, passed=4)

    trials = await evaluate_workflow(
        workflow(SINGLE_CALL), ScriptedRunner(rule), [problem(0), problem(1)], RewardSettings(), tag="t", runs=1, seed=0
    )
    assert [t.problem.id for t in trials.known] == ["scripted/0"] and trials.lost == ("the endpoint is gone",)


async def test_what_earlier_rounds_spent_is_told_where_the_last_one_has_no_workflow():
    spent = Round(completion(SINGLE_CALL), workflow(SINGLE_CALL), None, (run(Outcome.WRONG_ANSWER, calls=20),))
    refused = parse_workflow("no workflow here")
    assert isinstance(refused, Refusal)
    score = Score(-0.7, {"performance": 0.0, "calls": 19.0}, floored=True)
    episode = Episode("e", (spent, Round(completion("no workflow here"), None, refused, ())), 1, score)
    group = Group(problem(0), (1, 2), (episode,))
    (only,) = trials_of_groups([group], RewardSettings()).known
    assert (only.calls, only.pass_rate) == (20.0, 0.0) and only.cost == pytest.approx(0.02) and only.latency == 0.5
    assert only.reward == pytest.approx(-0.2 - 0.025 * 19)
    assert group_metrics([group])["calls/mean"] == 20.0


@pytest.mark.parametrize(("calls", "share"), [((0, 0), 1.0), ((0, 1), 0.5), ((2, 3), 0.0)])
def test_answers_that_no_worker_was_asked_for_are_counted(calls: tuple[int, int], share: float):
    runs = (*(run(Outcome.PASSED, passed=4, calls=count) for count in calls), run(Outcome.CRASHED, calls=0))
    episode = Episode("e", (Round(completion(SINGLE_CALL), workflow(SINGLE_CALL), None, runs),), 0, None)
    assert group_metrics([Group(problem(0), (1, 2), (episode,))])["workflow/no_worker"] == share


def test_workflows_that_were_repaired_are_counted_and_named_in_their_row():
    habit = replace(workflow(SINGLE_CALL), repairs=("super().__init__()",))
    rounds = [Round(completion(SINGLE_CALL), each, None, (run(Outcome.PASSED, passed=4),)) for each in (habit, workflow(SINGLE_CALL))]
    group = Group(problem(0), (1, 2), tuple(Episode(f"e{index}", (part,), 0, None) for index, part in enumerate(rounds)))
    assert group_metrics([group])["workflow/repaired"] == 0.5
    assert [row.get("repairs") for row in episode_rows(0, group, 0)] == [["super().__init__()"], None]


async def test_a_partly_failed_problem_counts_its_good_runs_only():
    def rule(workflow, asked, seed, seen=[]):  # noqa: B006  the list counts the runs
        seen.append(seed)
        return run(Outcome.INFRA_ERROR) if len(seen) == 1 else run(Outcome.PASSED, passed=4)

    trials = await evaluate_workflow(workflow(SINGLE_CALL), ScriptedRunner(rule), [problem(0)], RewardSettings(), tag="t", runs=2, seed=0)
    (only,) = trials.known
    assert only.pass_rate == 1.0


def test_a_row_holds_means_intervals_and_levels():
    known = (trial(0, 0.0), trial(1, 1.0), trial(2, 1.0, level=2, examples=False))
    row = result_row("x", "policy", Trials(known, ("no answer", "no room", "no answer")), SETTINGS)
    assert (row["problems"], row["lost"], row["why"]) == (3, 3, "no answer")
    assert row["reward"] == pytest.approx(0.6667, abs=1e-3) and row["kind"] == "policy"
    low, high = row["reward_ci"]
    assert 0.0 <= low < row["reward"] < high <= 1.0
    assert row["by_level"]["1"]["reward"] == 0.5
    assert row["by_level"]["2"]["without_examples"]["problems"] == 1 and row["by_level"]["2"]["with_examples"]["problems"] == 0


def test_differences_are_taken_problem_by_problem_over_those_that_both_have():
    ours = [trial(number, 0.5 + 0.1 * (number % 2)) for number in range(40)]
    theirs = [trial(number, 0.3 + 0.1 * (number % 2)) for number in range(1, 41)]
    difference = minus(ours, theirs, 200)
    assert difference["problems"] == 39 and difference["reward"] == pytest.approx(0.2)
    assert difference["reward_ci"] == pytest.approx([0.2, 0.2]), "what makes a problem hard for both is no noise of the difference"
    assert minus(ours, [trial(99, 1.0)], 200) == {}


def test_a_table_whose_every_row_is_lost_fails_with_the_reason_and_one_known_row_saves_it():
    lost = result_row("a", "workflow", Trials((), ("HTTP 503 (overloaded)",)), SETTINGS)
    with pytest.raises(RunFailedError, match=r"all 2 rows were lost .* most of them to: HTTP 503 \(overloaded\)\."):
        refuse_if_all_lost([lost, lost])
    refuse_if_all_lost([lost, result_row("b", "workflow", Trials((trial(0, 1.0),)), SETTINGS)])


def test_the_table_says_what_was_lost_and_how_far_a_policy_is_from_the_best_fixed_workflow():
    policy = result_row("GRPO policy", "policy", Trials((trial(0, 0.9), trial(1, 0.7)), ("HTTP 503",)), SETTINGS)
    policy["minus"] = {"of": "best fixed workflow"} | minus([trial(0, 0.9), trial(1, 0.7)], [trial(0, 0.5), trial(1, 0.3)], 200)
    lost = result_row("SFT policy", "policy", Trials((), ("no connection",)), SETTINGS)
    out = StringIO()
    print_table([policy, lost], Terminal(file=out, width=100))
    said = " ".join(out.getvalue().split())
    assert "SFT policy: 1 of 1 problems lost to infrastructure failures, most of them: no connection" in said
    assert "GRPO policy: 1 of 3 problems lost to infrastructure failures, most of them: HTTP 503" in said
    assert "Minus best fixed workflow, problem by problem" in said and said.count("+0.400 [+0.400, +0.400]") == 2


@pytest.mark.parametrize("verdict", [None, "public", "hidden"])
def test_a_run_tells_why_infrastructure_failed(verdict: str | None):
    broken = Verdict(Outcome.INFRA_ERROR, (), ("the judge died",), 0.1, "scripted")
    fine = run(Outcome.PASSED, passed=4)
    lost = run(Outcome.INFRA_ERROR)
    one = {
        None: replace(lost, execution=replace(lost.execution, error="the judge died")),
        "public": replace(fine, public=broken),
        "hidden": replace(fine, verdict=broken),
    }[verdict]
    assert one.fault == "the judge died" and fine.fault == ""


def test_every_epoch_shows_each_problem_once_in_another_order():
    problems = [problem(number) for number in range(6)]
    epochs = [[problem_at(6 * epoch + offset, problems, seed=5).id for offset in range(6)] for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(p.id for p in problems)
    assert epochs[0] != epochs[1]


def test_no_two_groups_have_the_same_name_where_a_step_crosses_an_epoch():
    problems = [problem(number) for number in range(4)]
    names = [(tag_at(position, problems, 3), problem_at(position, problems, seed=2).id) for position in range(24)]
    assert len(set(names)) == 24


def test_a_completion_without_a_workflow_is_one_more_try_in_every_repeat():
    """pass@1 of a problem that is always solved and of one that is never: a half, whatever the runs."""
    solved = replace(trial(0, 1.0), samples=((True, True), (True, True)))
    refused = Round(completion("nothing"), None, Refusal(Outcome.NO_WORKFLOW, "none"), ())
    wrong = Round(completion(SINGLE_CALL), workflow(SINGLE_CALL), None, (run(Outcome.WRONG_ANSWER, passed=0),) * 2)
    episodes = tuple(Episode("e", (one,), 0, Score(0, {}, True)) for one in (refused, wrong))
    (never,) = trials_of_groups([Group(problem(1), (1,), episodes)], RewardSettings()).known
    assert never.samples == ((False, False), (False, False))
    row = result_row("p", "policy", Trials((solved, never)), SETTINGS)
    assert row["pass_at_k"] == {"1": 0.5, "2": 0.5}


def test_sampled_completions_are_each_worth_what_a_fixed_workflow_would_be():
    reward = RewardSettings(weights=RewardWeights(diversity=0.1))
    same = Round(completion(SINGLE_CALL), workflow(SINGLE_CALL), None, (run(Outcome.PASSED, passed=4),))
    four, one = (Group(problem(0), (1,), (Episode("e", (same,), 0, Score(0, {}, False)),) * n) for n in (4, 1))
    assert [trials_of_groups([group], reward).known[0].reward for group in (four, one)] == [pytest.approx(1.1)] * 2
