"""What verifiers have run in the box, within the limits of one judgement."""

from collections.abc import Sequence

from sandbox.judges.bench import Bench
from sandbox.judges.function import SPARES, examine_apart
from sandbox.judges.suite import examine_beside
from sandbox.program import run_program
from sandbox.settings import LimitSettings
from workflow.code import read_preamble
from workflow.problem import Problem
from workflow.verifiers.runner import Examined, JudgeError, ProgramResult
from workflow.worker.interface import PromptRefused, Worker, WorkerError

CALL_SHARE = 0.5
"""Share of ``sandbox.limits.wall_s`` that one program may take on one input. Each has a deadline of its own: how many tests a problem has
says nothing of how slow an answer is."""


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

    async def run_programs(self, source: str, inputs: Sequence[str], output_bytes: int = 0) -> tuple[list[ProgramResult], bool]:
        each_s, kept_kib = self._limits.wall_s * CALL_SHARE, max(self._limits.output_kib, -(-output_bytes // 1024))
        limits = self._limits.model_copy(update={"wall_s": each_s, "output_kib": kept_kib})
        results: list[ProgramResult] = []
        late = 0
        for stdin in inputs:
            if late > SPARES:
                results.append(ProgramResult(False, f"not run, since {late} runs before did not end within {each_s:g} s"))
                continue
            done = await run_program(self._bench.backend, limits, source, stdin)
            late += done.late
            results.append(done.result())
        return results, late > 0

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
