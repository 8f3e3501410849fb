"""Work with the learner that outlives it: a learner that is lost is brought back, and the work begins again where it was saved."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from rollout.failures import MemoryDeaths
from trainer.failures import Failures, LearnerLostError
from trainer.learner.handle import Learner
from trainer.run.folder import RunFolder
from trainer.system import System
from workflow.outcome import RunFailedError


async def with_learner(system: System, run: RunFolder, failures: Failures, start: Path, work: Callable[[Learner], Awaitable[None]]) -> None:
    """Runs ``work`` to its end, however many learners that takes.

    The ranks are watched meanwhile, so that a death is noticed also while the work waits for something else.

    Args:
        start: the Hugging Face folder that a new learner loads.
        work: restores from the run folder what a new learner lacks; it may be cancelled.

    Raises:
        RunFailedError: ``trainer.max_failures`` learners were lost without one further step, or two ran out of memory in the same step.
        Exception: what ``work`` raises otherwise.
    """
    deaths = MemoryDeaths()
    while True:
        try:
            await _watch(await system.learner(), work)
            return
        except LearnerLostError as lost:
            step = step_under_way(run)
            if deaths.again(str(lost), step):
                raise RunFailedError(out_of_memory(run, step, str(lost))) from lost
            run.say(f"THE LEARNER IS LOST ({lost}). A new one is started and goes on from what was saved last.")
            failures.count("The learner", str(lost), reached=steps_logged(run))
            await system.replace_learner(start)


def steps_logged(run: RunFolder) -> int:
    """Steps of training that the run has logged, those included that the next learner repeats."""
    return len(run.rows("sft")) + len(run.rows("grpo"))


def step_under_way(run: RunFolder) -> str:
    """The step of the run that is not logged yet, in words."""
    stage = "sft" if "sft" in run.settings.trainer.stages and not run.is_done("sft") else "grpo"
    return f"{stage.upper()} step {len(run.rows(stage)) + 1}"


def out_of_memory(run: RunFolder, step: str, why: str) -> str:
    """What a user can do about a learner that needs more memory than there is."""
    learner = run.settings.learner
    checkpointing = "" if learner.gradient_checkpointing else ", set learner.gradient_checkpointing=true"
    return (
        f"The learner ran out of memory twice in {step} ({why}), and would again: lower learner.micro_batch_tokens "
        f"(now {learner.micro_batch_tokens}){checkpointing}, or give it more memory; then go on with trainer.run_dir={run.place}. "
        "In a new run also learner.lora_rank, more learner.ranks, or shorter model.max_response_tokens."
    )


async def _watch(learner: Learner, work: Callable[[Learner], Awaitable[None]]) -> None:
    working = asyncio.ensure_future(work(learner))
    watching = asyncio.ensure_future(learner.watch())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        lost = watching.exception() if watching.done() and not watching.cancelled() else None
        for task in (working, watching):
            if not task.done():
                task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
    if lost is not None and not (working.done() and not working.cancelled() and working.exception() is None):
        raise lost
    await working
