"""Stage 3, the GRPO loop: one step on one screen."""

import time
from collections.abc import Sequence

from rollout.fleet.fleet import Fleet
from rollout.groups.clock import Busy
from rollout.groups.collect import Collector
from rollout.groups.stream import GroupStream, StreamState, Taken
from rollout.records import Group
from trainer.algorithm.batch import policy_batch
from trainer.algorithm.data_order import problem_at, stream_limits, tag_at
from trainer.evaluation.trials import evaluate_policy
from trainer.failures import Failures
from trainer.learner.handle import Learner
from trainer.metrics.alarms import Alarms
from trainer.metrics.spending import Spending
from trainer.metrics.step import engine_metrics, evaluation_metrics, group_metrics, stream_metrics
from trainer.run.checkpoints import SavedOnError
from trainer.run.folder import RunFolder
from trainer.settings import EvaluationSettings, TrainerSettings
from workflow.problem import Problem


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
    collected: StreamState | None = None,
    failures: Failures,
) -> None:
    """Runs GRPO steps ``first_step .. grpo.steps - 1``.

    One step: take a group per query (sampled, run, judged, scored), turn the groups into advantages and tensors, update
    the learner, publish the new weights to every engine. With ``max_staleness=0`` each step's groups are collected from the
    weights that the step before published; otherwise the stream collects the next groups meanwhile.

    Raises:
        LearnerLostError: a rank of the learner died. After any other error the state is saved:
        ValueError: the next step would cost more than ``max_dollars`` allows.
        RunFailedError: no engine or sandbox is left, or in ``max_failures`` steps in a row no episode could be judged.
    """
    grpo = settings.grpo
    alarms, spending = watchers(run, settings)
    stream = group_stream(collector, settings, train, collected)
    async with run.checkpoints, stream, SavedOnError(run.checkpoints, learner, stream.state) as saver:
        await fleet.publish(first_step, await learner.weights())
        for step in run.steps(first_step, grpo.steps):
            saver.step = step
            if spending.overspends(steps=1 + settings.max_staleness):
                await stream.settle()
                raise spending.pause(step)
            start, _ = time.monotonic(), collector.clock.take()
            stream.start(version=step)
            taken = await stream.take()

            updating, saver.step = time.monotonic(), None  # from here to the log, weights and log are of different steps
            batch = policy_batch(taken.groups, grpo, temperature=collector.rollout.temperature)
            await run.checkpoints.written()  # it was saved while groups were collected
            learned = await learner.update(batch, grpo) if batch is not None else {}

            if settings.deterministic:
                await stream.settle()  # which weights a completion meets must not depend on how long the update takes
            publishing, engines = time.monotonic(), fleet.health()
            published = await fleet.publish(step + 1, await learner.weights())

            metrics = group_metrics(taken.collected) | stream_metrics(taken) | engine_metrics(engines, published) | learned
            metrics |= timings(taken, collector.clock.take(), start, updating, publishing, time.monotonic())
            metrics |= await validated(step, collector, settings.evaluation, validation)
            raised, said = alarms.check(metrics)
            metrics |= raised
            spending.add(metrics["spend/dollars"])
            run.log_groups(step, taken.collected)
            run.log("grpo", step, metrics, total=grpo.steps, alarms=said)
            saver.step = step + 1
            judged(taken.collected, failures, run, step)
            if (step + 1) % settings.checkpoint.every_steps == 0 or step + 1 == grpo.steps or run.stop_reason:
                run.checkpoints.begin(step + 1, learner, stream.state(), metrics.get("eval/reward"))


def group_stream(collector: Collector, settings: TrainerSettings, train: Sequence[Problem], collected: StreamState | None) -> GroupStream:
    """The run's groups by their positions in the data."""
    grpo = settings.grpo

    async def collect(position: int) -> Group:
        return await collector.group(problem_at(position, train, settings.seed), tag_at(position, train, grpo.problems_per_step))

    return GroupStream(collect, stream_limits(settings), last_step=grpo.steps, state=collected)


async def validated(step: int, collector: Collector, settings: EvaluationSettings, problems: Sequence[Problem]) -> dict[str, float]:
    """Greedy completions on validation problems, every ``every_steps`` steps; nothing in between."""
    if not settings.every_steps or (step + 1) % settings.every_steps:
        return {}
    return evaluation_metrics(await evaluate_policy(collector, problems[: settings.quick_size], tag="validation", runs=1))


def judged(groups: Sequence[Group], failures: Failures, run: RunFolder, step: int) -> None:
    """Raises RunFailedError where for ``max_failures`` steps in a row no episode could be judged: worker endpoint or sandboxes are down."""
    episodes = [episode for group in groups for episode in group.episodes]
    if any(episode.score is not None for episode in episodes):
        failures.clear("Judging episodes")
        return
    faults = [each.fault for episode in episodes for part in episode.rounds for each in part.runs if each.fault]
    run.state.last_fault = faults[0] if faults else "no error told"
    failures.count("Judging episodes", f"all {len(episodes)} of step {step + 1} masked, {run.state.last_fault}")


def watchers(run: RunFolder, settings: TrainerSettings) -> tuple[Alarms, Spending]:
    """Alarms and spending, with what they had seen of the steps before a resume."""
    earlier = run.rows("grpo")
    return Alarms(settings.alarms, earlier), Spending(run.place, settings.max_dollars, earlier, run.state.rolled_back_dollars)


def timings(taken: Taken, busy: Busy, start: float, updating: float, publishing: float, done: float) -> dict[str, float]:
    """Wall seconds of one step by stage, and the share of the step in which each kind of actor had nothing to do.

    Without overlap the stages add up to the step; with it, ``sample``, ``run`` and ``judge`` go on beside ``update``.
    """
    runs = [run for group in taken.collected for episode in group.episodes for part in episode.rounds for run in part.runs]
    judge_s = sum(run.verdict.wall_s for run in runs if run.verdict is not None)
    judge_share = judge_s / max(judge_s + sum(run.execution.wall_s for run in runs), 1e-9)
    return {
        "time/wait_s": taken.wait_s,
        "time/sample_s": busy.sample_s,
        "time/run_s": busy.run_only_s * (1 - judge_share),
        "time/judge_s": busy.run_only_s * judge_share,
        "time/update_s": publishing - updating,
        "time/publish_s": done - publishing,
        "time/step_s": done - start,
        "idle/engines": 1 - busy.sample_s / busy.total_s,
        "idle/sandboxes": 1 - busy.run_s / busy.total_s,
        "idle/learner": 1 - (publishing - updating) / busy.total_s,
    }
