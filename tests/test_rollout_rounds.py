"""Episodes of several rounds: what the policy reads between them, what counts, what is learnt."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from reward.settings import RewardSettings
from rollout.groups.collect import Collector
from rollout.records import Completion, Episode
from rollout.settings import RolloutSettings
from sandbox.records import Run, Verdict
from tests.scripted_parts import SINGLE_CALL, TEST_LOOP, ScriptedRenderer, ScriptedRunner, ScriptedSampler, problem, run
from workflow.outcome import Outcome

TOKENS = (5, 6, 7)
SECRET = "assert f([9]) == 'hidden expectation'"


class RecordingSampler(ScriptedSampler):
    """Gives each round the next text; notes every prompt."""

    def __init__(self, texts: Sequence[str], finish_reason: str = "stop") -> None:
        super().__init__(texts)
        self.prompts: list[tuple[int, ...]] = []
        self.stuck_to: list[int | None] = []
        self.finish_reason = finish_reason

    async def sample(
        self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int, sticky: int | None = None
    ) -> list[Completion]:
        self.prompts.append(tuple(prompt_ids))
        self.stuck_to.append(sticky)
        self.asked.append((n, temperature, seed))
        text = self.texts[min(len(self.prompts) - 1, len(self.texts) - 1)]
        return [Completion(text, TOKENS, (-0.1, -0.2, -0.3), len(self.prompts), self.finish_reason)] * n


def judged(hidden: float, public: float | None, *, of: int = 10, calls: int = 1, outcome: Outcome | None = None) -> Run:
    """A run whose answer passes these shares of the hidden and of the public tests."""

    def verdict(share: float, message: str) -> Verdict:
        passed = tuple(index < round(share * of) for index in range(of))
        ended = Outcome.PASSED if all(passed) else Outcome.WRONG_ANSWER
        return Verdict(ended, passed, tuple(message for ok in passed if not ok), 0.1, "scripted")

    base = run(outcome or Outcome.PASSED, passed=4, calls=calls)
    if outcome is not None:
        return base
    return replace(base, verdict=verdict(hidden, SECRET), public=verdict(public, "assert f([1]) == 1") if public is not None else None)


def maker(
    runs: Sequence[Run], texts: Sequence[str] = (SINGLE_CALL,), *, finish: str = "stop", opened: str = "", **settings
) -> tuple[Collector, list[Run]]:
    """A collector whose n-th execution ends as the n-th of ``runs``."""
    left = list(runs)

    def rule(workflow, one, seed):
        return left.pop(0)

    rollout = RolloutSettings(**{"group_size": 2, "runs_per_workflow": 1, "rounds": 3, **settings})
    sampler, renderer = RecordingSampler(texts, finish), ScriptedRenderer(opened)
    return Collector(sampler, ScriptedRunner(rule), renderer, rollout, RewardSettings(), seed=3), left


async def one_episode(collector: Collector, **kwargs) -> Episode:
    (group,) = await collector.collect([problem(**kwargs)], tag="t", n=1)
    return group.episodes[0]


async def test_the_papers_three_rounds_are_worth_what_the_last_one_reaches():
    collector, _ = maker([judged(0.5, 0.4), judged(0.3, 0.3), judged(0.8, 0.6)])
    episode = await one_episode(collector)
    assert [part.performance for part in episode.rounds] == [0.5, 0.3, 0.8]
    assert episode.judged == 2 and episode.score is not None and episode.score.terms["performance"] == 0.8


async def test_the_best_round_by_public_tests_can_be_the_result_and_hidden_tests_do_not_choose():
    collector, _ = maker([judged(0.2, 0.9), judged(1.0, 0.5), judged(0.6, 0.1)], judged_round="best")
    episode = await one_episode(collector)
    assert episode.judged == 0 and episode.score is not None and episode.score.terms["performance"] == 0.2


async def test_of_equally_good_rounds_the_latest_is_the_result_and_one_without_workflow_never():
    collector, _ = maker([judged(0.5, 0.0), judged(0.4, 0.0)], [SINGLE_CALL, SINGLE_CALL, "no idea"], judged_round="best")
    episode = await one_episode(collector)
    assert len(episode.rounds) == 3 and episode.judged == 1


async def test_the_policy_reads_the_public_outcome_and_the_calls_and_nothing_of_the_hidden_tests():
    collector, _ = maker([judged(0.5, 0.4, calls=2), judged(1.0, 1.0)])
    episode = await one_episode(collector)
    told = episode.rounds[1].feedback
    assert told.startswith("Round 1 of 3: 4 of 10 public tests passed.\nassert f([1]) == 1\n")
    assert "generate -> , generate -> " in told and "(2 worker calls)" in told
    assert "hidden" not in told and "0.5" not in told


async def test_an_episode_ends_once_its_workflow_passes_every_public_test():
    collector, left = maker([judged(0.5, 0.4), judged(0.9, 1.0), judged(0.0, 0.0)])
    episode = await one_episode(collector)
    assert len(episode.rounds) == 2 and len(left) == 1


async def test_without_public_tests_an_answer_ends_the_episode_and_a_crash_does_not():
    collector, _ = maker([run(Outcome.CRASHED), judged(1.0, None)])
    episode = await one_episode(collector, examples=False)
    assert len(episode.rounds) == 2 and episode.rounds[1].feedback.startswith("Round 1 of 3: The workflow crashed.")


async def test_episodes_can_be_asked_to_go_through_all_rounds():
    collector, left = maker([judged(1.0, 1.0)] * 3, stop_when_settled=False)
    assert len((await one_episode(collector)).rounds) == 3 and not left


async def test_a_refused_completion_is_told_why_and_asked_again():
    collector, _ = maker([judged(1.0, 1.0)], ["I have no idea.", SINGLE_CALL])
    episode = await one_episode(collector)
    assert episode.rounds[1].feedback.startswith("Round 1 of 3: no workflow ran. The completion holds no `class Workflow`.")
    assert episode.outcome is Outcome.PASSED and episode.score is not None and not episode.score.floored


async def test_token_ids_are_carried_through_and_only_sampled_ones_carry_loss():
    collector, _ = maker([judged(0.5, 0.4), judged(1.0, 1.0)])
    episode = await one_episode(collector)
    sampler = collector.sampler
    assert isinstance(sampler, RecordingSampler)
    assert sampler.prompts == [(1, 2, 3), (1, 2, 3, *TOKENS, 8)]
    assert len(set(sampler.stuck_to)) == 1 and None not in sampler.stuck_to  # the engine that holds the first round's keys and values
    assert episode.response_ids == (*TOKENS, 8, *TOKENS)
    assert episode.response_mask == (1, 1, 1, 0, 1, 1, 1)
    assert episode.response_logprobs == (-0.1, -0.2, -0.3, 0.0, -0.1, -0.2, -0.3)
    assert episode.weights_version == 1  # of the oldest token


async def test_a_truncated_completion_gets_the_end_of_turn_that_it_did_not_sample():
    collector, _ = maker([judged(0.5, 0.4), judged(1.0, 1.0)], finish="length")
    assert (await one_episode(collector)).response_ids == (*TOKENS, 9, 8, *TOKENS)


async def test_calls_of_all_rounds_count_and_performance_of_the_result_alone():
    collector, _ = maker([judged(0.0, 0.0, calls=4), judged(1.0, 1.0, calls=2)])
    episode = await one_episode(collector)
    assert episode.score is not None
    assert (episode.score.terms["performance"], episode.score.terms["calls"]) == (1.0, 5.0)  # six calls, the first is free
    assert abs(episode.score.terms["cost"] - 0.006) < 1e-12


async def test_a_machine_failure_between_rounds_masks_the_episode():
    collector, left = maker([run(Outcome.INFRA_ERROR), judged(1.0, 1.0)])
    episode = await one_episode(collector)
    assert episode.score is None and episode.outcome is Outcome.INFRA_ERROR and len(left) == 1


async def test_a_repeat_that_a_machine_failed_in_any_round_is_left_out_of_the_mean():
    runs = [judged(0.0, 0.0), run(Outcome.INFRA_ERROR), judged(1.0, 1.0), judged(0.0, 1.0)]
    collector, _ = maker(runs, runs_per_workflow=2)
    episode = await one_episode(collector)
    assert len(episode.rounds) == 2 and episode.score is not None and episode.score.terms["performance"] == 1.0


async def test_a_later_round_meets_new_worker_seeds_and_siblings_share_them():
    runner_runs = [judged(0.0, 0.0), judged(0.0, 0.0), judged(1.0, 1.0)]
    collector, left = maker(runner_runs, [SINGLE_CALL, SINGLE_CALL, SINGLE_CALL, TEST_LOOP, TEST_LOOP])
    (group,) = await collector.collect([problem()], tag="t")
    assert not left and all(len(episode.rounds) == 3 for episode in group.episodes)  # one run a round for both siblings
    runner = collector.runner
    assert isinstance(runner, ScriptedRunner)
    assert len({seed for _, _, seed in runner.runs}) == 3


@pytest.mark.parametrize("rounds", [1, 2])
async def test_public_tests_are_judged_only_where_a_further_round_may_read_them(rounds: int):
    asked: list[bool] = []

    class Noting(ScriptedRunner):
        async def run(self, workflow, one, seed, *, public=False):
            asked.append(public)
            return judged(1.0, 1.0 if public else None)

    collector, _ = maker([], rounds=rounds)
    collector.runner = Noting(None)
    await one_episode(collector)
    assert asked == [rounds > 1]


DRAFT = f"Perhaps:\n{SINGLE_CALL}\nBut wait, the query"


@pytest.mark.parametrize(
    ("opened", "text", "found"), [("<think>", DRAFT, False), ("<think>", f"{DRAFT}</think>{SINGLE_CALL}", True), ("", DRAFT, True)]
)
async def test_a_draft_in_thoughts_that_the_prompt_opened_and_nobody_closed_is_no_workflow(opened: str, text: str, found: bool):
    collector, _ = maker([judged(1.0, 1.0)], [text], rounds=1, opened=opened)
    episode = await one_episode(collector)
    assert (episode.workflow is not None) is found
    assert found or (episode.refusal is not None and "ended inside its thoughts" in episode.refusal.message)
