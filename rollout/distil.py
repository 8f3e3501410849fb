"""Stage 1: traces from a teacher (paper section 3.2).

The teacher reads what the policy will read and answers with reasoning and a workflow; the workflow runs in the sandbox against the
worker, and what the public tests say goes back to the teacher, for up to ``distil.rounds`` rounds, by the code of the policy's episodes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from reward.group import score_group
from reward.settings import RewardSettings
from rollout.groups.collect import Runner, stable_seed
from rollout.groups.episode import converse
from rollout.prompt.meta_prompt import prompt_text
from rollout.prompt.template import PromptTemplate
from rollout.records import Completion, Episode
from rollout.settings import DistilSettings, ModelSettings, RolloutSettings
from rollout.traces import REFUSED, TeacherRound, Trace
from sandbox.records import Run
from workflow.language.reasoning import join_reasoning, split_reasoning
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.worker.interface import Message, PromptRefused, Worker, WorkerError


def teacher_prompt(distil: DistilSettings, model: ModelSettings) -> PromptTemplate:
    """The teacher's own prompt where it has one, else the policy's."""
    return PromptTemplate("distil.prompt", model.meta_prompt if distil.prompt is None else distil.prompt)


class _NothingToRun(Exception):
    """The teacher's last reply holds no answer at all: further rounds would go the same way."""


class _Teacher:
    """The teacher's side of one conversation."""

    def __init__(self, worker: Worker, settings: DistilSettings, prompt: str, seed: tuple[object, ...]) -> None:
        self.rounds: list[TeacherRound] = []
        self._worker = worker
        self._settings = settings
        self._messages: list[Message] = [{"role": "user", "content": prompt}]
        self._seed = seed

    async def answer(self, feedback: str = "") -> Completion:
        """The next reply; its tokens are the teacher's own and never known.

        The chat that is sent again holds no reasoning: neither does a policy's, whose chat template cuts it, and DeepSeek refuses it.

        Raises:
            _NothingToRun: the reply was refused, cut off, or is thoughts alone; it is in ``rounds``.
            WorkerError: the endpoint failed.
        """
        number = len(self.rounds)
        if feedback:
            self._messages.append({"role": "user", "content": feedback})
        try:
            reply = await self._worker.complete(
                list(self._messages),
                seed=stable_seed(*self._seed, number) if number else stable_seed(*self._seed),
                temperature=self._settings.temperature,
                max_tokens=self._settings.max_tokens,
            )
        except PromptRefused:
            self.rounds.append(TeacherRound("", finish_reason=REFUSED, feedback=feedback))
            raise _NothingToRun from None
        reasoning, text = reply.reasoning, reply.text
        if not reasoning or text.lstrip().startswith("<think>"):
            inline, text = split_reasoning(text)
            reasoning = reasoning or inline
        self.rounds.append(TeacherRound(text, reasoning, reply.finish_reason, feedback))
        if reply.truncated or not text.strip():
            raise _NothingToRun  # a workflow that was cut off is not what the teacher meant to write
        self._messages.append({"role": "assistant", "content": text})
        return Completion(join_reasoning(reasoning, text), (), (), 0, "stop")


@dataclass(frozen=True, slots=True)
class Distiller:
    """Puts queries to a teacher."""

    teacher: Worker
    runner: Runner
    settings: DistilSettings
    rollout: RolloutSettings
    """Feedback and the end of an episode are the policy's."""
    reward: RewardSettings
    prompt: PromptTemplate
    """What the teacher reads; see ``teacher_prompt``."""
    seed: int

    async def trace(self, index: int, problem: Problem) -> Trace:
        """Asks about one problem. Failures of machines and refusals of the endpoint come back as outcomes, never raised."""
        talk = _Teacher(self.teacher, self.settings, prompt_text(self.prompt, problem), (self.seed, "teacher", index))
        ask = self.rollout.model_copy(update={"rounds": self.settings.rounds, "judged_round": self.settings.keep_round})

        async def answer(number: int, before: Completion, feedback: str) -> tuple[Completion, tuple[int, ...]]:
            return await talk.answer(feedback), ()

        async def run(number: int, workflow: Workflow) -> tuple[Run, ...]:
            seed = stable_seed(self.seed, "distil", index, number) if number else stable_seed(self.seed, "distil", index)
            return (await self.runner.run(workflow, problem, seed, public=ask.rounds > 1),)

        trace = Trace(index, problem.id, problem.query, (), Outcome.NO_WORKFLOW)
        try:
            done = await converse(await talk.answer(), ask, answer=answer, run=run)
        except _NothingToRun:
            return replace(trace, rounds=tuple(talk.rounds), kept=len(talk.rounds) - 1)
        except WorkerError as failure:
            return replace(trace, rounds=tuple(talk.rounds), outcome=Outcome.INFRA_ERROR, fault=str(failure))
        episode = Episode(f"distil/{index}", done.rounds, done.judged, None)
        (score,) = score_group([episode.attempt], problem, self.reward)
        result = episode.result
        return replace(
            trace,
            rounds=tuple(talk.rounds),
            kept=done.judged,
            outcome=result.refusal.outcome if result.refusal is not None else result.runs[0].outcome,
            reward=None if score is None else score.total,
            fault=result.runs[0].fault if result.runs else "",
        )

    async def traces(
        self, problems: Sequence[Problem], *, wanted: int, teaches: Callable[[Trace], bool], first: int = 0, useful: int = 0
    ) -> AsyncIterator[Trace]:
        """Traces in the order of their queries, until ``wanted`` exist that can be learnt from or ``distil.max_requests`` queries were put.

        Args:
            problems: training problems; query ``i`` is that of ``problems[i % len(problems)]``.
            teaches: whether a trace is one more to learn from.
            first: query to begin with, and ``useful``: traces to learn from that exist already (a resumed distillation).

        Raises:
            WorkerError: the last 20 queries in a row all failed for infrastructure reasons.
        """
        waiting: list[asyncio.Task[Trace]] = []
        index, limit, failures_in_a_row = first, self.settings.max_requests, 0
        try:
            while useful < wanted and (index < limit or waiting):
                while len(waiting) < self.settings.concurrency and index < limit:
                    waiting.append(asyncio.ensure_future(self.trace(index, problems[index % len(problems)])))
                    index += 1
                trace = await waiting.pop(0)
                useful += teaches(trace)
                failures_in_a_row = failures_in_a_row + 1 if trace.outcome is Outcome.INFRA_ERROR else 0
                if failures_in_a_row >= 20:
                    raise WorkerError(
                        f"20 distillation requests in a row failed, the last one (problem {trace.problem_id}) with: {trace.fault} "
                        "Check the teacher and worker endpoints."
                    )
                yield trace
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
