"""The trusted side of a workflow run: answers its operator calls, meters them, keeps the trace.

Prompts, model and limits are set here; the box has stubs only. What a call may spend is reserved before it is sent
and settled with the reported usage.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

from sandbox.budget import Budget
from sandbox.channel import Channel
from sandbox.guest.frames import FrameError
from sandbox.records import OperatorCall
from sandbox.settings import BudgetSettings
from workflow.operators import OPERATORS, Operator
from workflow.operators.context import BudgetExceeded, ProgramResult, TestReport
from workflow.problem import Problem
from workflow.worker import Message, PromptRefused, Worker, WorkerError

TRACE_CHARACTERS = 4000
"""Length to which arguments and replies are cut in the trace."""
MAX_UNANSWERED = 256
"""Operator calls that may wait for an answer; a flood beyond breaks the run."""
MAX_UNANSWERED_BYTES = 16 * 2**20
"""Size of their frames."""
MAX_REFUSED = 1000
"""Calls beyond the budget or to no operator that a run may make before it counts as a flood."""
MAX_ANSWER_CHARACTERS = 256 * 1024


class Box(Protocol):
    """What operators may have run for them."""

    async def run_tests(self, problem: Problem, solution: str, tests: Sequence[str]) -> TestReport:
        """Tests on a solution. Raises BackendError."""
        ...

    async def run_program(self, source: str) -> ProgramResult:
        """A whole program. Raises BackendError."""
        ...


class CallContext:
    """One operator call's OperatorContext: worker and tests, with their bill."""

    def __init__(self, host: "WorkflowHost") -> None:
        self._host = host
        self.worker_calls = 0
        self.test_runs = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cost_dollars = 0.0
        self.truncated = 0
        self.prompt = ""
        self.parent = host.last_ended
        """The call that had ended last when this one began."""

    @property
    def problem(self) -> Problem:
        return self._host.problem

    async def ask(self, messages: Sequence[Message], *, temperature: float | None = None, max_tokens: int | None = None) -> str:
        host = self._host
        self.prompt = messages[-1]["content"] if messages else ""
        reserved = await host.budget.reserve(messages, max_tokens)
        key = (*((message["role"], message["content"]) for message in messages), temperature, max_tokens)
        ordinal = host.asked[key]
        host.asked[key] += 1
        try:
            reply = await host.worker.complete(messages, seed=host.seed, ordinal=ordinal, temperature=temperature, max_tokens=max_tokens)
        except BaseException:
            host.budget.settle(reserved, 0, 0.0)
            raise
        host.budget.settle(reserved, reply.prompt_tokens + reply.completion_tokens, reply.cost_dollars)
        self.worker_calls += 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        self.cost_dollars += reply.cost_dollars
        self.truncated += reply.truncated
        return reply.text

    async def run_tests(self, solution: str, tests: Sequence[str]) -> TestReport:
        self.test_runs += 1
        return await self._host.box.run_tests(self._host.problem, solution, tests)

    async def run_program(self, source: str) -> ProgramResult:
        return await self._host.box.run_program(source)


class WorkflowHost:
    """Serves one run over its channel until it finishes."""

    def __init__(
        self,
        problem: Problem,
        worker: Worker,
        box: Box,
        budget: BudgetSettings,
        seed: int,
        operators: Mapping[str, type[Operator]] = OPERATORS,
    ) -> None:
        self.problem = problem.public_view()
        self.worker = worker
        self.box = box
        self.budget = Budget(budget)
        self.seed = seed
        self.operators = operators
        self.asked: Counter[Hashable] = Counter()
        self.trace: list[OperatorCall] = []
        self.infrastructure: str = ""
        """Why the run says nothing about the workflow: the worker endpoint or the sandbox failed in it."""
        self._slots = asyncio.Semaphore(budget.concurrent_calls)
        self._start = time.monotonic()
        self._calls = 0
        self.last_ended = -1
        self._max_calls = budget.calls + MAX_REFUSED

    async def serve(self, channel: Channel) -> dict[str, Any]:
        """Answers calls until the finish frame, and returns that. Raises FrameError where the guest breaks the protocol."""
        tasks: dict[asyncio.Task[None], int] = {}
        loop = asyncio.get_running_loop()

        def take(frame: dict[str, Any]) -> dict[str, Any] | None:
            if "finish" in frame:
                return self._checked(frame["finish"])
            if type(frame.get("id")) is not int:
                raise FrameError("an operator call has no number")
            size = channel.frame_bytes
            if len(tasks) >= MAX_UNANSWERED or self._calls >= self._max_calls or sum(tasks.values(), size) > MAX_UNANSWERED_BYTES:
                raise FrameError(f"a flood of {self._calls} operator calls, {len(tasks)} of them unanswered")
            task = loop.create_task(self._answer(channel, frame, self._calls))
            self._calls += 1
            tasks[task] = size
            task.add_done_callback(tasks.pop)
            return None

        try:
            finish = await channel.hand_out(take)
            if finish is None:
                raise FrameError("the workflow's process ended without an answer")
            return finish
        finally:
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _checked(self, finish: Any) -> dict[str, Any]:
        """A finish frame's object as far as the guest's word counts: its budget was exceeded only where we said so."""
        if not isinstance(finish, dict):
            raise FrameError("the finish frame holds no object")
        answer, error = finish.get("answer"), str(finish.get("error", ""))
        if not isinstance(answer, str):
            return {"error": error, "kind": "budget" if finish.get("kind") == "budget" and self.budget.refused else "crash"}
        if len(answer) > MAX_ANSWER_CHARACTERS:
            return {"error": f"an answer of {len(answer)} characters is over the limit of {MAX_ANSWER_CHARACTERS}", "kind": "crash"}
        return {"answer": answer}

    async def _answer(self, channel: Channel, frame: dict[str, Any], index: int) -> None:
        name, started = frame.get("op"), time.monotonic()
        context = CallContext(self)
        error, kind, value = "", "", None
        async with self._slots:
            try:
                value = await self._operate(context, name, frame.get("args"), frame.get("kwargs"))
            except BudgetExceeded as failure:
                error, kind = str(failure), "budget"
            except (TypeError, ValueError) as failure:
                error, kind = str(failure), "type"
            except PromptRefused as failure:  # too long or filtered: the workflow's doing
                error, kind = str(failure), "refused"
            except WorkerError as failure:
                self.infrastructure = error = str(failure)
                kind = "infra"
            except Exception as failure:
                self.infrastructure = error = f"{type(failure).__name__}: {failure}"
                kind = "infra"
        self.last_ended = index
        ended = time.monotonic()
        try:
            if self.infrastructure:
                channel.abort()  # whatever the workflow makes of it, this run says nothing: no need to go on
            elif error:
                await self._reply(channel, {"id": frame.get("id"), "error": error[:1000], "kind": kind})
            else:
                await self._reply(channel, {"id": frame.get("id"), "value": value, "cost_dollars": context.cost_dollars})
        finally:  # after the reply: the guest works while this is written down
            self.trace.append(self._record(index, str(name), frame, value, error, context, started, ended))

    async def _reply(self, channel: Channel, reply: dict[str, Any]) -> None:
        try:
            await channel.send(reply)
        except FrameError:  # too large a result, or the guest is gone; serve() sees that itself
            with contextlib.suppress(FrameError):
                await channel.send({"id": reply["id"], "error": "the result is larger than a frame", "kind": "refused"})

    async def _operate(self, context: CallContext, name: Any, args: Any, kwargs: Any) -> Any:
        operator = self.operators.get(name) if isinstance(name, str) else None
        if operator is None or not isinstance(args, list) or not isinstance(kwargs, dict):
            raise TypeError(f"there is no operator {str(name)[:80]!r} called like this")
        self.budget.take_call()
        bound = operator.bind([self._problem(item) for item in args], {key: self._problem(item) for key, item in kwargs.items()})
        return await operator(context)(**bound)

    def _problem(self, value: Any) -> Any:
        """The query in place of a reference to the problem."""
        if isinstance(value, dict) and value.get("$problem") is True:
            return self.problem.query
        return [self._problem(item) for item in value] if isinstance(value, list) else value

    def _record(
        self, index: int, name: str, frame: dict[str, Any], value: Any, error: str, context: CallContext, started: float, ended: float
    ) -> OperatorCall:
        arguments = json.dumps({"args": frame.get("args"), "kwargs": frame.get("kwargs")})
        return OperatorCall(
            index=index,
            operator=name[:80],
            arguments=arguments[:TRACE_CHARACTERS],
            reply="" if error else json.dumps(value)[:TRACE_CHARACTERS],
            error=error[:1000],
            worker_calls=context.worker_calls,
            test_runs=context.test_runs,
            prompt_tokens=context.prompt_tokens,
            completion_tokens=context.completion_tokens,
            cost_dollars=context.cost_dollars,
            started_s=started - self._start,
            latency_s=ended - started,
            prompt=context.prompt[:TRACE_CHARACTERS],
            parent=context.parent,
            truncated=context.truncated,
        )
