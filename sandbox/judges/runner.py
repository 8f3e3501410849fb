"""What verifiers have run in the box, within the limits of one judgement."""

from collections.abc import Sequence

from sandbox.judges.bench import Bench
from sandbox.judges.function import examine_apart
from sandbox.judges.suite import examine_beside
from sandbox.program import run_program
from sandbox.settings import LimitSettings
from workflow.code import read_preamble
from workflow.problem import Problem
from workflow.verifiers.runner import Examined, JudgeError, ProgramResult
from workflow.worker.interface import PromptRefused, Worker, WorkerError

CALL_SHARE = 0.5
"""Share of the judgement's deadline that one program may take."""


class BoxRunner:
    """The ``Runner`` of one judgement. Raises BackendError, FrameError or OSError for faults of our own."""

    def __init__(self, bench: Bench, limits: LimitSettings, problem: Problem, judge: Worker | None = None) -> None:
        """
        Args:
            judge: the LLM for answers that no test can judge.
        """
        self._bench = bench
        self._limits = limits
        self._problem = problem
        self._judge = judge
        self.cost_dollars = 0.0
        """What the judge has cost so far."""

    async def test_apart(self, source: str, tests: Sequence[str]) -> Examined:
        problem = self._problem
        own = set(tests) <= {*problem.public_tests, *problem.hidden_tests}
        preamble = read_preamble(problem.query, problem.entry_point)
        return await examine_apart(self._bench, self._limits, source, problem.entry_point, tests, problem.test_setup, preamble, own=own)

    async def test_beside(self, source: str, tests: Sequence[str]) -> Examined:
        problem = self._problem
        preamble = read_preamble(problem.query, problem.entry_point)
        return await examine_beside(self._bench.backend, self._limits, source, tests, problem.test_setup, preamble)

    async def run_programs(self, source: str, inputs: Sequence[str]) -> tuple[list[ProgramResult], bool]:
        limits, left_s = self._limits, self._limits.wall_s
        results: list[ProgramResult] = []
        late = False
        for stdin in inputs:
            if left_s <= 0:
                results.append(ProgramResult(False, f"no answer within {limits.wall_s:g} s"))
                continue
            deadline_s = min(left_s, limits.wall_s * CALL_SHARE)
            done = await run_program(self._bench.backend, limits.model_copy(update={"wall_s": deadline_s}), source, stdin)
            left_s -= done.wall_s
            late = late or done.late
            results.append(done.result())
        return results, late

    async def ask(self, system: str, prompt: str, ordinal: int = 0) -> str:
        if self._judge is None:
            raise JudgeError("no LLM judges here: this sandbox has neither a judge nor a worker")
        try:
            reply = await self._judge.complete(
                [{"role": "system", "content": system}, {"role": "user", "content": prompt}], seed=0, ordinal=ordinal, temperature=0.0
            )
        except PromptRefused as error:  # too long or filtered, for what the answer says
            self.cost_dollars += error.cost_dollars
            return ""
        except WorkerError as error:
            raise JudgeError(f"the judge: {error}") from None
        self.cost_dollars += reply.cost_dollars
        return reply.text
