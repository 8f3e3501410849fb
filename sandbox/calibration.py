"""How far an LLM's judgement can be trusted: it judges answers of a set that has tests, of which is known whether they are right."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sandbox.audit import make_mutants
from sandbox.sandbox import Sandbox
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.verifiers import find_verifier
from workflow.verifiers.judged import NO_VERDICT

CRITERION = "The answer is correct: it does all that the task asks for, in every case."


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the judge said of answers that tests had judged."""

    right: int
    """Right answers that it judged."""
    right_accepted: int
    wrong: int
    """Wrong answers that it judged."""
    wrong_refused: int
    failed: int
    """Judgements that failed or were no verdict; they are in no other figure."""

    @property
    def agreement(self) -> float:
        """Balanced accuracy, in [0, 1]: 0.5 is a judge that knows nothing."""
        return (self.right_accepted / max(self.right, 1) + self.wrong_refused / max(self.wrong, 1)) / 2


async def calibrate(sandbox: Sandbox, problems: Sequence[Problem], count: int) -> Calibration:
    """Has the judge look at the reference and a wrong answer of up to ``count`` problems, which are sound."""
    known = [problem for problem in problems if problem.reference is not None]
    chosen = random.Random(0).sample(known, min(count, len(known)))
    pairs = await asyncio.gather(*(_wrong_answer(sandbox, problem, problems) for problem in chosen))
    asked = [(problem, problem.reference or "", True) for problem in chosen]
    asked += [(problem, wrong, False) for problem, wrong in zip(chosen, pairs, strict=True) if wrong is not None]
    verdicts = await asyncio.gather(
        *(
            sandbox.judge(replace(problem, verifier="rubric", public_tests=(), hidden_tests=(CRITERION,)), answer)
            for problem, answer, _ in asked
        )
    )
    judged = [
        (right, verdict.outcome is Outcome.PASSED)
        for (*_, right), verdict in zip(asked, verdicts, strict=True)
        if verdict.outcome is not Outcome.INFRA_ERROR and not any(failure.startswith(NO_VERDICT) for failure in verdict.failures)
    ]
    accepted = [passed for right, passed in judged if right]
    refused = [not passed for right, passed in judged if not right]
    return Calibration(len(accepted), sum(accepted), len(refused), sum(refused), len(asked) - len(judged))


async def _wrong_answer(sandbox: Sandbox, problem: Problem, problems: Sequence[Problem]) -> str | None:
    """A mutant of the reference, or the answer to another problem, that fails the tests; None where none is found."""
    if find_verifier(problem.verifier).is_code:
        candidates = list(make_mutants(problem, 5))
    else:
        others = [other.reference for other in problems if other.reference and other.hidden_tests != problem.hidden_tests]
        candidates = random.Random(problem.id).sample(others, min(3, len(others)))
    for answer in candidates:
        if (await sandbox.judge(problem, answer)).outcome is Outcome.WRONG_ANSWER:
            return answer
    return None
