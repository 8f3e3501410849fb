"""What one operator call may use on the trusted side, and its bill."""

import asyncio
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, Protocol

from sandbox.budget import Budget, Reserved
from sandbox.origin import Sent
from sandbox.run_clock import RunClock, Wait
from sandbox.settings import BudgetSettings
from workflow.operators.context import TestReport
from workflow.problem import Problem
from workflow.text import cut_thoughts, is_unfinished
from workflow.verifiers.runner import ProgramResult
from workflow.worker.crew import DEFAULT_WORKER
from workflow.worker.interface import Message, PromptRefused, Reply, Worker


class Box(Protocol):
    """What operators may have run for them."""

    async def run_tests(self, problem: Problem, solution: str, tests: Sequence[str]) -> TestReport:
        """Tests on a solution. Raises BackendError."""
        ...

    async def run_program(self, source: str) -> ProgramResult:
        """A whole program. Raises BackendError."""
        ...


class NamedWorker(NamedTuple):
    """A worker that operators may ask by name."""

    worker: Worker
    rates: BudgetSettings
    """With its prices and what a call to it may use."""


class RunContext(Protocol):
    """What the calls of one run share; ``sandbox.host.WorkflowHost`` is the real one."""

    problem: Problem
    workers: Mapping[str, NamedWorker]
    box: Box
    budget: Budget
    seed: int
    clock: RunClock
    said: list[str]
    """What the worker replied and what programs of its printed, in order."""
    sent: list[Sent]
    """What the worker was asked, in order."""
    asked: Counter[Hashable]
    """How often each request was made so far: equal requests of a run get different samples."""
    last_ended: int


class CallContext:
    """One operator call's OperatorContext: worker and tests, with their bill."""

    def __init__(self, host: RunContext) -> None:
        self._host = host
        self.worker = DEFAULT_WORKER
        """Whom this call asks."""
        self.worker_calls = 0
        self.test_runs = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cost_dollars = 0.0
        self.truncated = 0
        self.refused = 0
        self.prompt = ""
        self.parent = host.last_ended
        """The call that had ended last when this one began."""

    @property
    def problem(self) -> Problem:
        return self._host.problem

    async def ask(self, messages: Sequence[Message], *, temperature: float | None = None, max_tokens: int | None = None) -> str:
        with self._host.clock.waiting() as wait:
            return (await self._complete(messages, temperature, max_tokens, wait)).text

    async def _complete(self, messages: Sequence[Message], temperature: float | None, max_tokens: int | None, wait: Wait) -> Reply:
        host = self._host
        self.prompt = messages[-1]["content"] if messages else ""
        worker, rates = host.workers[self.worker]
        reserved = await host.budget.reserve(messages, max_tokens, rates)
        key = (self.worker, *((message["role"], message["content"]) for message in messages), temperature, max_tokens)
        ordinal = host.asked[key]
        host.asked[key] += 1
        host.sent.append(Sent("\n".join(message["content"] for message in messages), len(host.said)))
        try:
            reply = await worker.complete(messages, seed=host.seed, ordinal=ordinal, temperature=temperature, max_tokens=max_tokens)
        except asyncio.CancelledError:
            self._bill(reserved, *reserved)
            raise
        except BaseException as failure:
            self.refused += isinstance(failure, PromptRefused)
            if isinstance(failure, PromptRefused) and failure.prompt_tokens + failure.completion_tokens:  # generated, and paid for
                self._bill(reserved, failure.prompt_tokens, failure.completion_tokens, failure.cost_dollars)
            else:
                host.budget.settle(reserved, 0, 0.0)
            raise
        wait.served_s = reply.latency_s
        self._bill(reserved, reply.prompt_tokens, reply.completion_tokens, reply.cost_dollars)
        self.truncated += reply.truncated
        if (reply.truncated or is_unfinished(reply.text)) and not cut_thoughts(reply.text).strip():
            self.refused += 1
            raise PromptRefused("the worker spent all its tokens on thinking and gave no answer: ask it for less at once")
        host.said.append(reply.text)
        return reply

    def _bill(self, reserved: Reserved, prompt_tokens: int, completion_tokens: int, dollars: float) -> None:
        self._host.budget.settle(reserved, prompt_tokens + completion_tokens, dollars)
        self.worker_calls += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.cost_dollars += dollars

    async def run_tests(self, solution: str, tests: Sequence[str]) -> TestReport:
        self.test_runs += 1
        return await self._host.box.run_tests(self._host.problem, solution, tests)

    async def run_program(self, source: str) -> ProgramResult:
        done = await self._host.box.run_program(source)
        self._host.said.append(done.output if done.ok else "")
        return done
