"""Scripted implementations of the Protocols that the collecting and evaluating code sees."""

from collections.abc import Sequence

from rollout.records import Completion
from sandbox.records import Execution, OperatorCall, Run, Verdict
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow

SINGLE_CALL = """```python
class Workflow:
    async def __call__(self, problem):
        answer = await self.generate(problem)
        return answer
```"""
TEST_LOOP = """```python
class Workflow:
    async def __call__(self, problem):
        answer = await self.generate(problem)
        for _ in range(2):
            report = await self.test(problem, answer)
            if report.passed:
                break
            answer = await self.revise(problem, answer, report.feedback)
        return answer
```"""


def problem(number: int = 0, *, level: int = 1, examples: bool = True) -> Problem:
    """A problem that nothing really solves."""
    public = ("assert f([1]) == 1",) if examples else ()
    hidden = ("assert f([2]) == 2",) * 4
    return Problem(f"scripted/{number}", f"Write f(xs), variant {number}.", "f", public, hidden, level=level, source="scripted")


def completion(text: str, *, version: int = 0) -> Completion:
    """A completion whose tokens stand for nothing."""
    return Completion(text, (5, 6, 7), (-0.1, -0.2, -0.3), version, "stop")


def run(outcome: Outcome, *, passed: int = 0, of: int = 4, calls: int = 1, seed: int = 0) -> Run:
    """A run that ended with ``outcome``; ``passed`` of ``of`` hidden tests pass."""
    trace = tuple(OperatorCall(i, "generate", "", "", "", 1, 0, 100, 50, 0.001, 0.0, 0.1) for i in range(calls))
    judged = outcome in (Outcome.PASSED, Outcome.WRONG_ANSWER)
    execution = Execution(Outcome.ANSWERED if judged else outcome, f"answer {seed}" if judged else None, trace, "", 0.5, "scripted")
    results = tuple(index < passed for index in range(of))
    return Run(execution, Verdict(outcome, results, (), 0.1, "scripted") if judged else None)


class ScriptedSampler:
    """Returns the given texts as completions and notes what it was asked for."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.asked: list[tuple[int, float, int]] = []

    async def sample(
        self, prompt_ids: Sequence[int], n: int, *, temperature: float, seed: int, sticky: int | None = None
    ) -> list[Completion]:
        self.asked.append((n, temperature, seed))
        return [completion(self.texts[index % len(self.texts)]) for index in range(n)]


class ScriptedRunner:
    """Answers runs by a rule from (workflow, problem, seed) and notes every run."""

    def __init__(self, rule) -> None:
        self.rule = rule
        self.runs: list[tuple[str, str, int]] = []

    async def run(self, workflow: Workflow, problem: Problem, seed: int, *, public: bool = False) -> Run:
        self.runs.append((workflow.fingerprint, problem.id, seed))
        return self.rule(workflow, problem, seed)


class ScriptedRenderer:
    """Every prompt is the same three tokens; a feedback turn is token 8, after token 9 where the completion did not end itself."""

    def __init__(self, opened: str = "") -> None:
        self.opened = opened

    def render(self, problem: Problem) -> tuple[int, ...]:
        return (1, 2, 3)

    def feedback(self, text: str, *, ended: bool) -> tuple[int, ...]:
        return (8,) if ended else (9, 8)

    def decode(self, token_ids: Sequence[int]) -> str:
        return ""
