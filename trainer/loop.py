"""Stage 3, the GRPO loop: one step on one screen."""

import time
from collections.abc import Sequence

import numpy as np

from rollout.collect import Collected, Collector
from rollout.fleet import Fleet
from trainer.alarms import Alarms
from trainer.batch import policy_batch
from trainer.evaluation import evaluate_policy
from trainer.learner import Learner
from trainer.metrics import evaluation_metrics, group_metrics
from trainer.run_folder import RunFolder
from trainer.settings import TrainerSettings
from trainer.spending import Spending
from workflow.problem import Problem


def problems_of_step(problems: Sequence[Problem], step: int, per_step: int, seed: int) -> list[Problem]:
    """The queries of one step: every epoch is a fresh permutation, and any step can be computed alone (resume)."""
    chosen: list[Problem] = []
    for position in range(step * per_step, (step + 1) * per_step):
        epoch, offset = divmod(position, len(problems))
        order = np.random.default_rng([seed, epoch]).permutation(len(problems))
        chosen.append(problems[order[offset]])
    return chosen


async def train_grpo(
    collector: Collector,
    fleet: Fleet,
    learner: Learner,
    run: RunFolder,
    settings: TrainerSettings,
    *,
    train: Sequence[Problem],
    validation: Sequence[Problem],
    first_step: int,
) -> None:
    """Runs GRPO steps ``first_step .. grpo.steps - 1``.

    One step: collect a group per query (sample, run, judge, score), turn the groups into advantages and tensors,
    update the learner, publish the new weights to every engine. Strictly on-policy: the next step samples from
    the weights that this one published.

    Raises:
        ValueError: the next step would cost more than ``max_dollars`` allows; a checkpoint is saved.
    """
    grpo, evaluation = settings.grpo, settings.evaluation
    alarms, spending = Alarms(settings.alarms), Spending(run.path, settings.max_dollars)
    await fleet.publish(first_step, await learner.weights())
    for step in range(first_step, grpo.steps):
        if spending.overspends():
            await run.save_checkpoint(step, learner)
            raise spending.pause(step)
        start = time.monotonic()
        queries = problems_of_step(train, step, grpo.problems_per_step, settings.seed)
        collected = await collector.collect(queries, tag=f"train-{step}")

        updating = time.monotonic()
        batch = policy_batch(collected.groups, grpo, temperature=collector.rollout.temperature)
        learned = await learner.update(batch, grpo) if batch is not None else {}

        publishing = time.monotonic()
        await fleet.publish(step + 1, await learner.weights())

        done = time.monotonic()
        metrics = group_metrics(collected.groups) | learned | timings(collected, start, updating, publishing, done)
        if evaluation.every_steps and (step + 1) % evaluation.every_steps == 0:
            quick = await evaluate_policy(collector, validation[: evaluation.quick_size], tag="validation", runs=1)
            metrics |= evaluation_metrics(quick)
        raised, said = alarms.check(metrics)
        metrics |= raised
        spending.add(metrics["spend/dollars"])
        run.log_groups(step, collected.groups)
        run.log("grpo", step, metrics, total=grpo.steps, alarms=said)
        if (step + 1) % settings.checkpoint.every_steps == 0 or step + 1 == grpo.steps:
            await run.save_checkpoint(step + 1, learner)


def timings(collected: Collected, start: float, updating: float, publishing: float, done: float) -> dict[str, float]:
    """Wall seconds of one step by stage."""
    return {
        "time/sample_s": collected.sample_s,
        "time/run_s": collected.run_s,
        "time/judge_s": collected.judge_s,
        "time/update_s": publishing - updating,
        "time/publish_s": done - publishing,
        "time/step_s": done - start,
    }
