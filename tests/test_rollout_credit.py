"""What rounds and operator calls earn: scores of rounds, counterfactual runs, flat groups."""

import pickle
from collections.abc import Sequence
from dataclasses import replace

import pytest

from reward.score import Score
from reward.settings import RewardSettings, RewardWeights
from rollout.groups.collect import Collector
from rollout.groups.counterfactual import with_edits
from rollout.groups.credit import round_reward, with_round_scores
from rollout.groups.stream import is_flat
from rollout.records import Completion, Edit, Episode, Group, Round, Span
from rollout.settings import RolloutSettings
from sandbox.records import OperatorCall, Run, Verdict
from tests.scripted_parts import SINGLE_CALL, ScriptedRenderer, ScriptedRunner, ScriptedSampler, problem, run
from trainer.metrics.step import group_metrics
from trainer.run.episodes import episode_rows
from workflow.language.parse import parse_workflow
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Refusal, Workflow

REVISED = """Überlegung.
```python
class Workflow:
    async def __call__(self, problem):
        answer = await self.generate(problem)
        answer = await self.revise(problem, answer, "Prüfe es.")
        return answer
```"""
ONLY_PERFORMANCE = RewardSettings(weights=RewardWeights(complexity=0, calls=0), floor=-0.2)


class ByteSampler(ScriptedSampler):
    """A token a byte."""

    async def sample(
        self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int, sticky: int | None = None
    ) -> list[Completion]:
        texts = [self.texts[index % len(self.texts)] for index in range(n)]
        return [Completion(text, tuple(text.encode()), (-0.1,) * len(text.encode()), 0, "stop") for text in texts]


class ByteRenderer(ScriptedRenderer):
    def decode(self, token_ids: Sequence[int]) -> str:
        return bytes(token_ids).decode("utf-8", "replace")


def collector(texts: Sequence[str], rule, reward: RewardSettings = ONLY_PERFORMANCE, **settings) -> Collector:
    rollout = RolloutSettings(**{"group_size": 3, "runs_per_workflow": 2, **settings})
    return Collector(ByteSampler(texts), ScriptedRunner(rule), ByteRenderer(), rollout, reward, seed=3)


def calls(run: Run, *operators: str) -> Run:
    """The run with a call of each operator, whose arguments are its name and its place."""
    trace = tuple(
        OperatorCall(place, name, f"{name} {place}", "reply", "", 1, 0, 100, 50, 0.001, 0.0, 0.1) for place, name in enumerate(operators)
    )
    return replace(run, execution=replace(run.execution, trace=trace))


def by_source(workflow, one, seed) -> Run:
    """With ``revise`` 4 of 4 tests pass, without it 1, without a draft none."""
    revises, drafts = "self.revise" in workflow.source, "self.generate" in workflow.source
    made = [name for name, used in (("generate", drafts), ("revise", revises)) if used]
    passed = 4 if revises and drafts else 1 if drafts else 0
    return calls(run(Outcome.PASSED if passed == 4 else Outcome.WRONG_ANSWER, passed=passed), *made)


async def edited(maker: Collector, limit: int = 9) -> Group:
    return await with_edits(await maker.group(problem(), "train-0"), "train-0", maker, limit)


async def test_the_difference_that_a_call_makes_goes_to_the_tokens_of_its_line():
    group = await edited(collector([REVISED], by_source))
    worth = {edit.operator: edit for edit in group.edits}
    assert {name: edit.difference for name, edit in worth.items()} == {"generate": 1.0, "revise": 0.75}
    for name, line in (("revise", '        answer = await self.revise(problem, answer, "Prüfe es.")'), ("generate", "generate(problem)")):
        assert [span.episode for span in worth[name].spans] == [0, 1, 2], "siblings that share the workflow share the edit"
        for span in worth[name].spans:
            written = bytes(group.episodes[span.episode].response_ids[span.start : span.end]).decode()
            assert written.endswith(line) and written.count("\n") == 0


async def test_an_edited_workflow_meets_the_seeds_of_the_original():
    maker = collector([REVISED], by_source)
    await edited(maker)
    original = maker.runner.runs[0][0]
    seeds = {seed for fingerprint, _, seed in maker.runner.runs if fingerprint == original}
    others = [(fingerprint, seed) for fingerprint, _, seed in maker.runner.runs if fingerprint != original]
    assert len(seeds) == 2 and len(others) == 2 * 2 and {seed for _, seed in others} == seeds


async def test_without_shared_runs_each_sibling_is_edited_under_its_own_seeds():
    maker = collector([REVISED], by_source, share_runs=False, group_size=2, runs_per_workflow=1)
    group = await edited(maker)
    original = maker.runner.runs[0][0]
    seeds = [seed for fingerprint, _, seed in maker.runner.runs if fingerprint == original]
    assert sorted(seed for fingerprint, _, seed in maker.runner.runs if fingerprint != original) == sorted(seeds * 2)
    assert sorted(span.episode for edit in group.edits for span in edit.spans) == [0, 0, 1, 1]


async def test_no_more_calls_are_edited_than_asked_for_and_the_same_ones_again():
    chosen = [[edit.operator for edit in (await edited(collector([REVISED, SINGLE_CALL], by_source), limit=1)).edits] for _ in range(2)]
    assert chosen[0] == chosen[1] and len(chosen[0]) == 1


async def test_counterfactual_runs_change_no_reward_and_count_in_what_was_spent():
    maker = collector([REVISED], by_source)
    plain = await maker.group(problem(), "train-0")
    group = await edited(collector([REVISED], by_source))
    assert [episode.score for episode in group.episodes] == [episode.score for episode in plain.episodes]
    before, after = group_metrics([plain]), group_metrics([group])
    assert (before["spend/worker_calls"], before["spend/dollars"]) == (4, pytest.approx(0.004)), "2 runs of 2 calls"
    # Two edits, twice: the one without revise makes its generate call again, the one without generate a new call of revise.
    assert (after["edit/worker_calls"], after["edit/repeated_calls"]) == (4, 2)
    assert (after["spend/worker_calls"], after["spend/dollars"]) == (4 + 2, pytest.approx(0.008)), "the cache's replies are billed"
    assert (after["worth/revise"], after["edited/revise"]) == (0.75, 1) and "worth/revise" not in before


async def test_a_cost_that_the_edit_saves_is_taken_off_what_the_call_is_worth():
    reward = RewardSettings(weights=RewardWeights(complexity=0, calls=-0.1))
    group = await edited(collector([REVISED], by_source, reward))
    assert {edit.operator: edit.difference for edit in group.edits}["revise"] == pytest.approx(0.75 - 0.1)


async def test_distinctness_is_that_of_what_the_policy_wrote():
    reward = RewardSettings(weights=RewardWeights(complexity=0, calls=0, diversity=1.0))
    group = await edited(collector([REVISED], by_source, reward))
    assert {edit.operator: edit.difference for edit in group.edits}["revise"] == 0.75


async def test_leaving_a_call_out_makes_a_workflow_no_more_distinct_from_its_siblings():
    """The edited run of the first workflow calls what no sibling calls; that is nothing that the call did."""

    def idle(workflow, one, seed) -> Run:
        made = [name for name in ("generate", "revise", "review") if f"self.{name}" in workflow.source]
        return calls(run(Outcome.PASSED, passed=4), *made)

    reward = RewardSettings(weights=RewardWeights(complexity=0, calls=0, diversity=0.1))
    group = await edited(collector([REVISED, REVISED, REVISED], idle, reward, share_runs=False))
    assert {edit.difference for edit in group.edits if edit.operator == "revise"} == {0.0}
    assert {edit.performance for edit in group.edits if edit.operator == "revise"} == {0.0}


async def test_a_machine_that_fails_in_a_counterfactual_run_gives_no_credit_and_is_counted():
    def rule(workflow, one, seed) -> Run:
        return by_source(workflow, one, seed) if "self.revise" in workflow.source else run(Outcome.INFRA_ERROR)

    group = await edited(collector([REVISED], rule))
    worth = {edit.operator: edit.difference for edit in group.edits}
    assert worth == {"generate": 1.0, "revise": None}
    metrics = group_metrics([group])
    assert metrics["edit/lost"] == 1 and "worth/revise" not in metrics and metrics["infra/masked"] == 0


async def test_refused_and_masked_episodes_are_not_edited():
    maker = collector(["Nothing.", SINGLE_CALL], lambda workflow, one, seed: run(Outcome.INFRA_ERROR))
    assert (await edited(maker)).edits == ()


async def test_a_completion_that_its_tokens_do_not_spell_is_counted_and_gets_no_credit():
    maker = collector([REVISED], by_source)
    maker.renderer = ScriptedRenderer()
    group = await edited(maker)
    assert all(edit.spans == () and edit.unplaced == 3 for edit in group.edits) and group_metrics([group])["edit/unplaced"] == 6
    assert is_flat(group)


async def test_the_rows_of_episodes_say_what_their_calls_are_worth():
    group = await edited(collector([REVISED, SINGLE_CALL], by_source))
    rows = episode_rows(0, group, 0)
    assert {"operator": "revise", "kind": "input", "difference": 0.75} in rows[0]["edits"] and "edits" not in rows[1]


# Rounds.


def one_round(performance: float | None, calls: int = 1) -> Round:
    """A round whose workflow passes that share of 4 tests with some calls; None: a refused one."""
    completion = Completion("text", (1, 2), (-0.1, -0.2), 0, "stop")
    if performance is None:
        return Round(completion, None, Refusal(Outcome.NO_WORKFLOW, "None."), ())
    passed = round(performance * 4)
    ended = Outcome.PASSED if passed == 4 else Outcome.WRONG_ANSWER
    workflow = parse_workflow(SINGLE_CALL)
    assert isinstance(workflow, Workflow)
    return Round(completion, workflow, None, (run(ended, passed=passed, calls=calls),))


def talk(total: float | None, *rounds: Round) -> Episode:
    return Episode("e", rounds, len(rounds) - 1, None if total is None else Score(total, {}, False))


def test_each_round_is_worth_its_own_performance_less_its_own_calls():
    reward = RewardSettings(weights=RewardWeights(complexity=0, calls=-0.1), floor=-0.3)
    group = Group(
        problem(), (1,), (talk(0.8, one_round(0.5, calls=3), one_round(1.0, calls=2)), talk(0.2, one_round(None), one_round(0.5)))
    )
    scored = with_round_scores(group, reward)
    totals = [[part.score.total if part.score else None for part in episode.rounds] for episode in scored.episodes]
    assert totals == [[pytest.approx(0.5 - 0.2), pytest.approx(1.0 - 0.1)], [-0.3, 0.5]]


def test_a_round_earns_the_mean_of_its_own_and_of_the_episodes_worth():
    group = with_round_scores(Group(problem(), (1,), (talk(0.8, one_round(0.5), one_round(1.0)),)), ONLY_PERFORMANCE)
    assert [round_reward(group.episodes[0], number, 0.8) for number in (0, 1)] == [pytest.approx(0.65), pytest.approx(0.9)]
    assert round_reward(talk(0.8, one_round(0.5)), 0, 0.8) == 0.8, "of a round without a score of its own"


async def test_an_episode_of_one_round_earns_its_reward():
    maker = collector([REVISED, SINGLE_CALL], by_source, RewardSettings())
    group = with_round_scores(await maker.group(problem(), "t"), maker.reward)
    for episode in group.episodes:
        assert episode.score is not None and round_reward(episode, 0, episode.score.total) == episode.score.total


def test_a_group_whose_rounds_differ_is_not_flat_though_its_episodes_are_worth_the_same():
    same = Group(problem(), (1,), (talk(1.0, one_round(0.0), one_round(1.0)), talk(1.0, one_round(0.5), one_round(1.0))))
    assert is_flat(same) and not is_flat(with_round_scores(same, ONLY_PERFORMANCE))


def test_a_group_in_which_an_edit_tells_a_calls_worth_is_not_flat():
    flat = Group(problem(), (1,), (talk(1.0, one_round(1.0)), talk(1.0, one_round(1.0))))
    edit = Edit("revise", "input", 0.5, (Span(0, 0, 1),), 0, 1, 0, 0.001)
    assert is_flat(flat) and not is_flat(replace(flat, edits=(edit,)))
    assert is_flat(replace(flat, edits=(replace(edit, difference=None), replace(edit, difference=0.0), replace(edit, spans=()))))


def test_groups_of_earlier_checkpoints_have_no_edits_and_no_scores_of_rounds():
    group = Group(problem(), (1, 2), (talk(1.0, one_round(1.0)),))
    part, old_group = Round.__new__(Round), Group.__new__(Group)
    first = group.episodes[0].rounds[0]
    part.__setstate__([first.completion, first.workflow, first.refusal, first.runs, "", ()])
    old_group.__setstate__([group.problem, group.prompt_ids, group.episodes])
    assert part == first and old_group == group
    edit = Edit("revise", "input", None, (Span(0, 0, 1),), 0, 1, 0, 0.001)
    new = replace(with_round_scores(group, ONLY_PERFORMANCE), edits=(edit,))
    assert pickle.loads(pickle.dumps(new)) == new


def test_problems_and_verdicts_of_earlier_checkpoints_lack_nothing():
    verdict, asked = Verdict.__new__(Verdict), Problem.__new__(Problem)
    verdict.__setstate__([Outcome.PASSED, (True, False), (), 0.1, "landlock", "split", False])
    asked.__setstate__(["p", "?", "f", (), ("assert f()",), "", None, None, "function", "humaneval"])
    assert verdict == Verdict(Outcome.PASSED, (True, False), (), 0.1, "landlock") and verdict.performance == 0.5
    assert asked.public_view() == Problem("p", "?", "f", (), (), source="humaneval") and asked.weight == 1.0
