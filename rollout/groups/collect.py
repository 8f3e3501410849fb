"""From problems to scored groups: sample the policy, run what it wrote, judge, score.

Groups go through concurrently; a completion's workflow starts to run as soon as its group is sampled. This module does not
know how completions are sampled or where workflows run: it sees two Protocols.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from reward.group import score_group
from reward.settings import RewardSettings
from rollout.groups.clock import BusyClock
from rollout.groups.episode import Conversation, Renderer, converse
from rollout.records import Completion, Episode, Group
from rollout.settings import RolloutSettings
from sandbox.records import Run
from workflow.problem import Problem
from workflow.program import Workflow


class Sampler(Protocol):
    """Samples the policy; ``rollout.fleet.fleet.Fleet`` is the real one."""

    async def sample(
        self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int, sticky: int | None = None
    ) -> list[Completion]:
        """``n`` completions of one prompt; temperature 0 is greedy. Prompts with one ``sticky`` number begin alike."""
        ...


class Runner(Protocol):
    """Runs and judges a workflow; ``sandbox.pool.SandboxPool`` is the real one."""

    async def run(self, workflow: Workflow, problem: Problem, seed: int, *, public: bool = False) -> Run:
        """One execution with its verdict, ``public``: also by the public tests. Machine failures come back as INFRA_ERROR, never raised."""
        ...


def stable_seed(*parts: object) -> int:
    """A 31-bit seed from any printable parts, equal on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1


def run_seed(seed: int, tag: str, problem: Problem, repeat: object) -> int:
    """Worker seed of one execution; equal for all workflows that meet ``problem`` under ``tag``."""
    return stable_seed(seed, tag, problem.id, "run", repeat)


class Collector:
    """Turns problems into groups."""

    def __init__(
        self, sampler: Sampler, runner: Runner, renderer: Renderer, rollout: RolloutSettings, reward: RewardSettings, seed: int
    ) -> None:
        self.sampler = sampler
        self.runner = runner
        self.renderer = renderer
        self.rollout = rollout
        self.reward = reward
        self.seed = seed
        self.clock = BusyClock()

    async def collect(
        self,
        problems: Sequence[Problem],
        *,
        tag: str,
        n: int | None = None,
        temperature: float | None = None,
        runs: int | None = None,
        held_out: bool = False,
    ) -> tuple[Group, ...]:
        """One group of episodes per problem, in order.

        Args:
            problems: the queries.
            tag: part of every episode id and of every seed, so that a rerun repeats.
            n, temperature, runs: completions a problem, sampling temperature and runs a workflow, where they
                differ from the settings (evaluation: 1 greedy completion).
            held_out: each completion has runs of its own, whatever ``share_runs`` says, so that several are as many independent
                tries; answers are judged by the public tests, too.
        """
        ask = self.rollout.model_copy(
            update={
                "group_size": n or self.rollout.group_size,
                "temperature": self.rollout.temperature if temperature is None else temperature,
                "runs_per_workflow": runs or self.rollout.runs_per_workflow,
                "share_runs": self.rollout.share_runs and not held_out,
            }
        )
        groups = [asyncio.ensure_future(self._group(problem, tag, ask, public=held_out)) for problem in problems]
        try:
            return tuple(await asyncio.gather(*groups))
        finally:
            await cancel_all(groups)

    async def group(self, problem: Problem, tag: str) -> Group:
        """One group of episodes, as the settings say."""
        return await self._group(problem, tag, self.rollout)

    async def _group(self, problem: Problem, tag: str, ask: RolloutSettings, *, public: bool = False) -> Group:
        prompt_ids = self.renderer.render(problem)
        seed = stable_seed(self.seed, tag, problem.id)
        sticky = seed if ask.rounds > 1 else None
        firsts = await self._sample(prompt_ids, ask.group_size, ask, seed, sticky)
        shared = SharedRuns(self, problem, tag, ask, public=public or ask.rounds > 1)

        def conversation(index: int, first: Completion) -> "asyncio.Task[Conversation]":
            context = prompt_ids

            async def answer(number: int, before: Completion, feedback: str) -> tuple[Completion, tuple[int, ...]]:
                """Ids are carried, never tokenised again: the learner sees what was sampled, an engine's prefix cache what it knows."""
                nonlocal context
                ids = self.renderer.feedback(feedback, ended=before.finish_reason == "stop")
                context = (*context, *before.token_ids, *ids)
                (completion,) = await self._sample(context, 1, ask, stable_seed(seed, "round", number, index), sticky)
                return completion, ids

            async def run(number: int, workflow: Workflow) -> tuple[Run, ...]:
                return await shared.runs(number, index, workflow)

            return asyncio.ensure_future(converse(first, ask, answer=answer, run=run))

        talks = [conversation(index, first) for index, first in enumerate(firsts)]
        try:
            done = await asyncio.gather(*talks)
        finally:
            await cancel_all([*talks, *shared.tasks.values()])
        episodes = [Episode(f"{tag}/{problem.id}/{index}", talk.rounds, talk.judged, None) for index, talk in enumerate(done)]
        scores = score_group([episode.attempt for episode in episodes], problem, self.reward)
        return Group(
            problem,
            prompt_ids,
            tuple(
                Episode(episode.id, episode.rounds, episode.judged, None if talk.broken else score)
                for episode, talk, score in zip(episodes, done, scores, strict=True)
            ),
        )

    async def _sample(self, prompt_ids: Sequence[int], n: int, ask: RolloutSettings, seed: int, sticky: int | None) -> list[Completion]:
        """``sticky``: later rounds go where the keys and values of the earlier ones are."""
        with self.clock.during("sample"):
            return await self.sampler.sample(prompt_ids, n, temperature=ask.temperature, seed=seed, sticky=sticky)


class SharedRuns:
    """The executions of one group's workflows, ``runs_per_workflow`` times each.

    Siblings meet the same worker seeds (common random numbers), so that a group's rewards differ by what the workflows do
    and not by the worker's luck; with ``share_runs`` equal ASTs therefore run only once. Without it the first sibling meets those seeds
    and each further one the next ones. A later round meets new seeds.
    """

    def __init__(self, collector: Collector, problem: Problem, tag: str, ask: RolloutSettings, *, public: bool) -> None:
        self.tasks: dict[tuple[object, ...], asyncio.Task[Run]] = {}
        self._collector = collector
        self._problem = problem
        self._tag = tag
        self._ask = ask
        self._public = public

    async def runs(self, number: int, index: int, workflow: Workflow) -> tuple[Run, ...]:
        """All executions of what sibling ``index`` wrote in round ``number``."""
        count = self._ask.runs_per_workflow
        first = 0 if self._ask.share_runs else index * count
        return tuple(await asyncio.gather(*(self._run(number, repeat, workflow) for repeat in range(first, first + count))))

    async def _run(self, number: int, repeat: int, workflow: Workflow) -> Run:
        key = (number, workflow.fingerprint, repeat)
        if key not in self.tasks:
            seed = run_seed(self._collector.seed, self._tag, self._problem, (repeat, number) if number else repeat)
            self.tasks[key] = asyncio.ensure_future(self._execute(workflow, seed))
        return await asyncio.shield(self.tasks[key])

    async def _execute(self, workflow: Workflow, seed: int) -> Run:
        with self._collector.clock.during("run"):
            return await self._collector.runner.run(workflow, self._problem, seed, public=self._public)


async def cancel_all(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancels what still runs and waits for it."""
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
