"""Stage 1: traces from a teacher, kept where the workflow they hold really works (paper section 3.1).

The teacher sees the full meta-prompt (language rules, operator catalogue, query) whatever the policy's own
meta-prompt is, answers with reasoning and a workflow, and the workflow runs in the sandbox against the worker.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rollout.collect import Runner, stable_seed
from rollout.settings import DistilSettings
from workflow.operators import catalogue
from workflow.outcome import Outcome
from workflow.parse import parse_workflow
from workflow.problem import Problem
from workflow.program import Refusal
from workflow.worker import Message, Worker, WorkerError


@dataclass(frozen=True, slots=True)
class Trace:
    """One request to the teacher and what became of it."""

    index: int
    """Number of the request, from 0; a resumed distillation goes on after the last one."""
    problem_id: str
    query: str
    text: str
    """The teacher's reply: reasoning, then the workflow."""
    outcome: Outcome
    """PASSED traces are the SFT rows; the others are kept for the report."""


def teacher_messages(problem: Problem) -> list[Message]:
    """What the teacher is asked for one problem."""
    examples = "\n".join(problem.public_tests)
    shown = f"\n<examples>\n{examples}\n</examples>" if examples else ""
    return [
        {"role": "system", "content": TEACHER_SYSTEM + "\n\nOperators:\n" + catalogue()},
        {"role": "user", "content": f"<problem>\n{problem.query}\n</problem>{shown}"},
    ]


TEACHER_SYSTEM = """You design a multi-agent workflow for one query. First reason briefly about how hard the query is and what \
checks are possible; then write the workflow as one Python code block:

```python
class Workflow:
    async def __call__(self, problem):
        answer = await self.generate(problem)
        return answer
```

Operators are methods of self and are awaited; asyncio.gather, loops and conditions are allowed. Return the final solution as a text. \
Every worker call costs money: use no more than the query needs."""


async def _trace(index: int, problem: Problem, teacher: Worker, runner: Runner, distil: DistilSettings, seed: int) -> Trace:
    try:
        reply = await teacher.complete(
            teacher_messages(problem),
            seed=stable_seed(seed, "teacher", index),
            temperature=distil.temperature,
            max_tokens=distil.max_tokens,
        )
    except WorkerError:
        return Trace(index, problem.id, problem.query, "", Outcome.INFRA_ERROR)
    parsed = parse_workflow(reply.text)
    if isinstance(parsed, Refusal):
        return Trace(index, problem.id, problem.query, reply.text, parsed.outcome)
    run = await runner.run(parsed, problem, stable_seed(seed, "distil", index))
    return Trace(index, problem.id, problem.query, reply.text, run.outcome)


async def distil_traces(
    problems: Sequence[Problem], teacher: Worker, runner: Runner, settings: DistilSettings, *, seed: int, first: int = 0, passed: int = 0
) -> AsyncIterator[Trace]:
    """Traces in the order of their requests, until ``settings.traces`` passed ones exist or ``max_requests`` were sent.

    Args:
        problems: training problems; request ``i`` is about ``problems[i % len(problems)]``.
        first: request to begin with, and ``passed``: passed traces that exist already (a resumed distillation).

    Raises:
        WorkerError: the last 20 requests in a row all failed for infrastructure reasons.
    """
    waiting: list[asyncio.Task[Trace]] = []
    next_index, failures_in_a_row = first, 0
    try:
        while passed < settings.traces and (next_index < settings.max_requests or waiting):
            while len(waiting) < settings.concurrency and next_index < settings.max_requests:
                problem = problems[next_index % len(problems)]
                waiting.append(asyncio.ensure_future(_trace(next_index, problem, teacher, runner, settings, seed)))
                next_index += 1
            trace = await waiting.pop(0)
            passed += trace.outcome is Outcome.PASSED
            failures_in_a_row = failures_in_a_row + 1 if trace.outcome is Outcome.INFRA_ERROR else 0
            if failures_in_a_row >= 20:
                raise WorkerError(
                    f"20 distillation requests in a row failed (last problem {trace.problem_id}): check the teacher and worker endpoints."
                )
            yield trace
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
