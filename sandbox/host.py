"""The trusted side of a workflow run: answers its operator calls, meters them, keeps the trace.

Prompts, model and limits are set here; the box has stubs only. What a call may spend is reserved before it is sent
and settled with the reported usage. A call that is under way when the run ends is cancelled and stays in the trace; a request of it that
the worker already had is billed with all that was reserved, since an endpoint bills what nobody waits for.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any

from sandbox.budget import Budget
from sandbox.call_context import Box, CallContext, NamedWorker
from sandbox.channel import Channel
from sandbox.guest.frames import FrameError
from sandbox.origin import Sent
from sandbox.process import BackendError
from sandbox.records import OperatorCall
from sandbox.run_clock import RunClock
from sandbox.settings import BudgetSettings, LimitSettings
from workflow.operators import OPERATORS, Operator
from workflow.operators.context import BudgetExceeded
from workflow.problem import Problem
from workflow.worker.crew import DEFAULT_WORKER, problem_of_worker
from workflow.worker.interface import PromptRefused, Worker, WorkerError

TRACE_CHARACTERS = 4000
"""Length to which arguments and replies are cut in the trace."""
MAX_UNANSWERED = 256
"""Operator calls that may wait for an answer; a flood beyond breaks the run."""
MAX_UNANSWERED_BYTES = 16 * 2**20
"""Size of their frames."""
MAX_REFUSED = 1000
"""Calls beyond the budget or to no operator that a run may make before it counts as a flood."""
MAX_ANSWER_CHARACTERS = 256 * 1024
ENDED_FIRST = "cancelled: the workflow ended first"
"""Error of a call that was under way when its run ended, by its answer or otherwise."""


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
        limits: LimitSettings | None = None,
        others: Mapping[str, NamedWorker] | None = None,
    ) -> None:
        """
        Args:
            others: further workers, by the names with which operators ask for them.
        """
        limits = limits or LimitSettings()
        self.problem = problem.public_view()
        self.workers: Mapping[str, NamedWorker] = {DEFAULT_WORKER: NamedWorker(worker, budget), **(others or {})}
        self.box = box
        self.budget = Budget(budget)
        self.seed = seed
        self.operators = operators
        self.asked: Counter[Hashable] = Counter()
        self.trace: list[OperatorCall] = []
        self.said: list[str] = []
        self.sent: list[Sent] = []
        self.infrastructure: str = ""
        """Why the run says nothing about the workflow: the worker endpoint or the sandbox failed in it."""
        self.clock = RunClock(limits, lambda: self._give_up(limits.worker_wait_s))
        self._channel: Channel | None = None
        self._slots = asyncio.Semaphore(budget.concurrent_calls)
        self._start = time.monotonic()
        self._calls = 0
        self.last_ended = -1
        self._max_calls = budget.calls + MAX_REFUSED

    async def serve(self, channel: Channel) -> dict[str, Any]:
        """Answers calls until the finish frame, and returns that. Raises FrameError where the guest breaks the protocol."""
        self._channel = channel
        tasks: dict[asyncio.Task[None], int] = {}
        loop = asyncio.get_running_loop()

        def take(frame: dict[str, Any]) -> dict[str, Any] | None:
            if "finish" in frame:
                return self._check_finish(frame["finish"])
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

    def _give_up(self, waited_s: float) -> None:
        self.infrastructure = f"the requests of one run waited for the worker longer than sandbox.limits.worker_wait_s={waited_s:g}"
        if self._channel is not None:
            self._channel.abort()

    def _check_finish(self, finish: Any) -> dict[str, Any]:
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
        name, context, started = str(frame.get("op"))[:80], CallContext(self), time.monotonic()
        value, error, kind, ended = None, ENDED_FIRST, "", None
        try:
            async with self._slots:
                value, error, kind = await self._outcome(context, name, frame)
            self.last_ended = index
            ended = time.monotonic()
            if self.infrastructure:
                channel.abort()  # whatever the workflow makes of it, this run says nothing: no need to go on
            elif error:
                await self._reply(channel, {"id": frame.get("id"), "error": error[:1000], "kind": kind})
            else:
                await self._reply(channel, {"id": frame.get("id"), "value": value, "cost_dollars": context.cost_dollars})
        finally:  # after the reply: the guest works while this is written down
            self.trace.append(self._record(index, name, frame, value, error, context, started, ended or time.monotonic()))

    async def _outcome(self, context: CallContext, name: str, frame: dict[str, Any]) -> tuple[Any, str, str]:
        """A call's result, its error (empty where there is none) and the kind of that.

        Only a failed endpoint, box or system call makes the run one that says nothing. What else goes wrong, goes wrong over a text that
        the workflow or its worker wrote: the call fails, the run counts, and the log has where, since it is our mistake.
        """
        try:
            return await self._operate(context, frame.get("op"), frame.get("args"), frame.get("kwargs")), "", ""
        except BudgetExceeded as failure:
            return None, str(failure), "budget"
        except (TypeError, ValueError) as failure:
            return None, str(failure) or type(failure).__name__, "type"
        except PromptRefused as failure:  # too long or filtered: the workflow's doing
            return None, str(failure), "refused"
        except WorkerError as failure:
            self.infrastructure = str(failure)
        except (BackendError, OSError) as failure:
            self.infrastructure = f"{type(failure).__name__}: {failure}"
        except Exception as failure:
            _log_once(name, type(failure).__name__)
            return None, f"{name} could not read its texts ({type(failure).__name__})", "crash"
        return None, self.infrastructure, "infra"

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
        context.worker = self._choose_worker(kwargs.pop("worker", DEFAULT_WORKER))
        bound = operator.bind([self._problem(item) for item in args], {key: self._problem(item) for key, item in kwargs.items()})
        return await operator(context)(**bound)

    def _choose_worker(self, name: Any) -> str:
        if problem := problem_of_worker(name, self.workers if len(self.workers) > 1 or name == DEFAULT_WORKER else ()):
            raise TypeError(f"{problem}.")
        return name

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
            operator=name,
            arguments=arguments[:TRACE_CHARACTERS],
            reply="" if error else json.dumps(value)[:TRACE_CHARACTERS],
            error=error[:1000],
            worker=context.worker,
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
            refused=context.refused,
        )


@lru_cache(maxsize=256)
def _log_once(operator: str, fault: str) -> None:
    """With the traceback of the exception that is being handled."""
    logging.getLogger(__name__).exception("The operator %s failed with %s, which is a mistake of its own.", operator, fault)
