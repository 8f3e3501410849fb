"""Self-consistency for the same money: the baseline that says whether a workflow is worth more than more samples."""

from collections.abc import Awaitable, Callable, Sequence
from statistics import fmean

from trainer.evaluation.trials import Trial, Trials
from workflow.operators.ensemble import LETTERS
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.reference import self_consistency

PILOT_PROBLEMS = 48
"""Problems on which it is found out what samples cost."""
PILOT_SAMPLES = (1, 5)


async def self_consistency_at(
    target: Sequence[Trial],
    evaluate: Callable[[Workflow, Sequence[Problem]], Awaitable[Trials]],
    problems: Sequence[Problem],
    *,
    max_calls: int,
) -> tuple[int, str, Trials]:
    """(samples, ``dollars`` or ``calls``, its trials): the number of samples whose mean cost is nearest to that of ``target``.

    The cost of a sample is measured on some of the problems, by runs whose answers are not looked at.

    Args:
        max_calls: operator calls that a run may make.
    """
    unit = "dollars" if any(trial.cost for trial in target) else "calls"

    def cost(trials: Sequence[Trial]) -> float:
        return fmean(trial.cost if unit == "dollars" else trial.calls for trial in trials)

    pilots = [await evaluate(self_consistency(samples), problems[:PILOT_PROBLEMS]) for samples in PILOT_SAMPLES]
    if not all(pilot.known for pilot in pilots):
        return PILOT_SAMPLES[0], unit, pilots[0]  # its endpoint is gone: the row says why
    few, many = (cost(pilot.known) for pilot in pilots)
    each = (many - few) / (PILOT_SAMPLES[1] - PILOT_SAMPLES[0])
    wanted = round(PILOT_SAMPLES[0] + (cost(target) - few) / each) if each > 0 else PILOT_SAMPLES[0]
    samples = max(1, min(wanted, len(LETTERS), max_calls - 1))
    return samples, unit, await evaluate(self_consistency(samples), problems)
