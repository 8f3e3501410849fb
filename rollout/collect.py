"""From problems to scored groups: sample the policy, run what it wrote, judge, score.

Groups go through concurrently; a group's workflows start to run as soon as its own
completions are there. This module does not know how completions are sampled or where
workflows run: it sees two Protocols.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reward.group import Attempt, score_group
from reward.settings import RewardSettings
from rollout.records import Completion, Episode, Group
from rollout.settings import RolloutSettings
from sandbox.records import Run
from workflow.parse import parse_workflow
from workflow.problem import Problem
from workflow.program import Refusal, Workflow


class Sampler(Protocol):
    """Samples the policy; ``rollout.fleet.Fleet`` is the real one."""

    async def sample(self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int) -> list[Completion]:
        """``n`` completions of one prompt; temperature 0 is greedy."""
        ...


class Runner(Protocol):
    """Runs and judges a workflow; ``sandbox.pool.SandboxPool`` is the real one."""

    async def run(self, workflow: Workflow, problem: Problem, seed: int) -> Run:
        """One execution with its verdict. Machine failures come back as INFRA_ERROR, never raised."""
        ...


class Renderer(Protocol):
    """Writes the meta-prompt; ``rollout.prompt.MetaPrompt`` is the real one."""

    def render(self, problem: Problem) -> tuple[int, ...]:
        """The problem as prompt token ids."""
        ...


@dataclass(frozen=True, slots=True)
class Collected:
    """The groups of one step and where the time went."""

    groups: tuple[Group, ...]
    sample_s: float
    """Wall seconds until the last group was sampled."""
    run_s: float
    """Wall seconds after that, the judge's share left out."""
    judge_s: float
    """The judge's share of the seconds after sampling, by the ratio of summed run and judge times."""


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

    async def collect(
        self, problems: Sequence[Problem], *, tag: str, n: int | None = None, temperature: float | None = None, runs: int | None = None
    ) -> Collected:
        """One group of episodes per problem.

        Args:
            problems: the step's queries.
            tag: names the step; part of every episode id and of every seed, so that a rerun repeats.
            n, temperature, runs: completions a problem, sampling temperature and runs a workflow, where they
                differ from the settings (evaluation: 1 greedy completion).
        """
        ask = self.rollout.model_copy(
            update={
                "group_size": n or self.rollout.group_size,
                "temperature": self.rollout.temperature if temperature is None else temperature,
                "runs_per_workflow": runs or self.rollout.runs_per_workflow,
            }
        )
        start = time.monotonic()
        sampled_at: list[float] = []
        groups = await asyncio.gather(*(self._group(problem, tag, ask, sampled_at) for problem in problems))
        total_s = time.monotonic() - start
        sample_s = max(sampled_at, default=start) - start
        done = [run for group in groups for episode in group.episodes for run in episode.runs]
        run_sum = sum(run.execution.wall_s for run in done)
        judge_sum = sum(run.verdict.wall_s for run in done if run.verdict is not None)
        judge_share = judge_sum / (run_sum + judge_sum) if run_sum + judge_sum > 0 else 0.0
        tail_s = total_s - sample_s
        return Collected(tuple(groups), sample_s, tail_s * (1 - judge_share), tail_s * judge_share)

    async def _group(self, problem: Problem, tag: str, ask: RolloutSettings, sampled_at: list[float]) -> Group:
        prompt_ids = self.renderer.render(problem)
        seed = stable_seed(self.seed, tag, problem.id)
        completions = await self.sampler.sample(prompt_ids, ask.group_size, temperature=ask.temperature, seed=seed)
        sampled_at.append(time.monotonic())
        parsed = [parse_workflow(completion.text) for completion in completions]
        runs = await self._run_all(problem, parsed, tag, ask)
        attempts = [Attempt(workflow if isinstance(workflow, Workflow) else None, own) for workflow, own in zip(parsed, runs, strict=True)]
        scores = score_group(attempts, self.reward)
        episodes = tuple(
            Episode(
                id=f"{tag}/{problem.id}/{index}",
                completion=completion,
                workflow=workflow if isinstance(workflow, Workflow) else None,
                refusal=workflow if isinstance(workflow, Refusal) else None,
                runs=own,
                score=score,
            )
            for index, (completion, workflow, own, score) in enumerate(zip(completions, parsed, runs, scores, strict=True))
        )
        return Group(problem, prompt_ids, episodes)

    async def _run_all(
        self, problem: Problem, parsed: Sequence[Workflow | Refusal], tag: str, ask: RolloutSettings
    ) -> list[tuple[Run, ...]]:
        """Runs every workflow ``runs_per_workflow`` times.

        Siblings meet the same worker seeds (common random numbers), so that a group's rewards differ by what
        the workflows do and not by the worker's luck; with ``share_runs`` equal ASTs therefore run only once.
        """
        tasks: dict[tuple[str, int], asyncio.Task[Run]] = {}
        keys: list[list[tuple[str, int]]] = []
        for index, workflow in enumerate(parsed):
            keys.append([])
            if isinstance(workflow, Refusal):
                continue
            for repeat in range(ask.runs_per_workflow):
                key = (workflow.fingerprint if ask.share_runs else str(index), repeat)
                if key not in tasks:
                    seed = run_seed(self.seed, tag, problem, repeat if ask.share_runs else (repeat, index))
                    tasks[key] = asyncio.ensure_future(self.runner.run(workflow, problem, seed))
                keys[-1].append(key)
        await asyncio.gather(*tasks.values())
        return [tuple(tasks[key].result() for key in own) for own in keys]
