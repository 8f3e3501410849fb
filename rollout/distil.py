"""Stage 1: traces from a teacher, kept where the workflow they hold really works (paper section 3.1).

The teacher reads the meta-prompt that ``distil.prompt`` names, whatever the policy's own is, answers with reasoning and a workflow,
and the workflow runs in the sandbox against the worker.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from rollout.groups.collect import Runner, stable_seed
from rollout.prompt.facts import PromptFacts
from rollout.prompt.meta_prompt import DEFAULT_FACTS, prompt_text
from rollout.prompt.template import PromptTemplate
from rollout.settings import DistilSettings
from workflow.language.parse import parse_workflow
from workflow.language.reasoning import join_reasoning, split_reasoning
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Refusal
from workflow.worker.interface import PromptRefused, Worker, WorkerError


@dataclass(frozen=True, slots=True)
class Trace:
    """One request to the teacher and what became of it."""

    index: int
    """Number of the request, from 0; a resumed distillation goes on after the last one."""
    problem_id: str
    query: str
    text: str
    """The teacher's reply without the reasoning that it gave apart: prose, if any, and the workflow."""
    outcome: Outcome
    """PASSED traces are the SFT rows; the others are kept for the report."""
    reasoning: str = ""
    """The teacher's chain of thought, from a field of its own or from between ``<think>`` tags; empty where it gave none."""
    finish_reason: str = ""
    """How the reply ended, in the endpoint's word; ``refused`` where the endpoint took no such prompt or filtered the reply."""
    fault: str = ""
    """Why infrastructure failed; empty where it did not."""

    @property
    def completion(self) -> str:
        """Reasoning and text as one text, in the form that ``workflow.language.reasoning`` splits again."""
        return join_reasoning(self.reasoning, self.text)

    @property
    def traits(self) -> tuple[str, ...]:
        """What ``summary`` counts of this trace."""
        failed = self.outcome is Outcome.INFRA_ERROR and not self.text
        marks = {
            "answered": not failed,
            "reasoning": bool(self.reasoning),
            "cut off": self.finish_reason == "length",
            "refused": self.finish_reason == REFUSED,
        }
        return tuple(name for name, holds in marks.items() if holds)


REFUSED = "refused"


def summary(counts: Counter[str]) -> str:
    """One line on what a teacher's replies are like, from the traits of all traces."""
    replies = max(1, counts["answered"])
    shares = {name: counts[name] / replies for name in ("reasoning", "cut off", "refused")}
    return (
        f"Teacher: of {counts['answered']} replies {shares['reasoning']:.0%} with reasoning, {shares['cut off']:.0%} cut off at "
        f"distil.max_tokens, {shares['refused']:.0%} refused by its endpoint."
    )


async def _trace(index: int, problem: Problem, prompt: str, teacher: Worker, runner: Runner, distil: DistilSettings, seed: int) -> Trace:
    try:
        reply = await teacher.complete(
            [{"role": "user", "content": prompt}],
            seed=stable_seed(seed, "teacher", index),
            temperature=distil.temperature,
            max_tokens=distil.max_tokens,
        )
    except PromptRefused:
        return Trace(index, problem.id, problem.query, "", Outcome.NO_WORKFLOW, finish_reason=REFUSED)
    except WorkerError as failure:
        return Trace(index, problem.id, problem.query, "", Outcome.INFRA_ERROR, fault=str(failure))
    reasoning, text = reply.reasoning, reply.text
    if not reasoning or text.lstrip().startswith("<think>"):
        inline, text = split_reasoning(text)
        reasoning = reasoning or inline
    trace = Trace(index, problem.id, problem.query, text, Outcome.NO_WORKFLOW, reasoning, reply.finish_reason)
    if reply.truncated:
        return trace  # whatever it holds is not what the teacher meant to write
    parsed = parse_workflow(trace.completion)
    if isinstance(parsed, Refusal):
        return replace(trace, outcome=parsed.outcome)
    run = await runner.run(parsed, problem, stable_seed(seed, "distil", index))
    return replace(trace, outcome=run.outcome, fault=run.fault)


async def distil_traces(
    problems: Sequence[Problem],
    teacher: Worker,
    runner: Runner,
    settings: DistilSettings,
    *,
    seed: int,
    first: int = 0,
    passed: int = 0,
    facts: PromptFacts = DEFAULT_FACTS,
    teaches: Callable[[Trace], bool] = lambda trace: trace.outcome is Outcome.PASSED,
) -> AsyncIterator[Trace]:
    """Traces in the order of their requests, until ``settings.traces`` exist that can be learnt from or ``max_requests`` were sent.

    Args:
        problems: training problems; request ``i`` is about ``problems[i % len(problems)]``.
        first: request to begin with, and ``passed``: traces to learn from that exist already (a resumed distillation).
        facts: what the prompts say of the run.
        teaches: whether a trace is one to learn from; left out: whether its workflow passed.

    Raises:
        WorkerError: the last 20 requests in a row all failed for infrastructure reasons.
    """
    prompt = PromptTemplate("distil.prompt", settings.prompt)
    waiting: list[asyncio.Task[Trace]] = []
    next_index, failures_in_a_row = first, 0
    try:
        while passed < settings.traces and (next_index < settings.max_requests or waiting):
            while len(waiting) < settings.concurrency and next_index < settings.max_requests:
                problem = problems[next_index % len(problems)]
                text = prompt_text(prompt, problem, facts)
                waiting.append(asyncio.ensure_future(_trace(next_index, problem, text, teacher, runner, settings, seed)))
                next_index += 1
            trace = await waiting.pop(0)
            passed += teaches(trace)
            failures_in_a_row = failures_in_a_row + 1 if trace.outcome is Outcome.INFRA_ERROR else 0
            if failures_in_a_row >= 20:
                raise WorkerError(
                    f"20 distillation requests in a row failed, the last one (problem {trace.problem_id}) with: {trace.fault} Check the "
                    "teacher and worker endpoints."
                )
            yield trace
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
