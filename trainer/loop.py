"""Stage 3, the GRPO loop: one step on one screen. What stands around it is in ``trainer.step_guard``."""

from collections.abc import Sequence

import torch

from rollout.fleet.fleet import Fleet
from rollout.groups.collect import Collector
from rollout.groups.counterfactual import with_edits
from rollout.groups.credit import with_round_scores
from rollout.groups.stream import GroupStream, StreamState
from rollout.records import Group
from trainer.algorithm.batch import BatchRules, policy_batch, scored_episodes, token_rows
from trainer.algorithm.data_order import flat_history, flat_rule, problem_at, stream_limits, tag_at
from trainer.algorithm.rewards import episode_kl
from trainer.evaluation.trials import evaluate_policy
from trainer.failures import Failures
from trainer.learner.handle import Learner
from trainer.metrics.step import engine_metrics, evaluation_metrics, group_metrics, stream_metrics
from trainer.run.folder import RunFolder
from trainer.settings import EvaluationSettings, GRPOSettings, TrainerSettings
from trainer.step_guard import StepGuard
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
    max_response_tokens: int,
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
    ask, weights = collector.rollout, collector.reward.weights.by_name
    rules = BatchRules(ask.temperature, max_response_tokens, ask.rounds, weights)
    stream = group_stream(collector, settings, train, collected)
    async with run.checkpoints, stream, StepGuard(run, settings, learner, stream, collector.clock, failures) as guard:
        await fleet.publish(first_step, await learner.weights())
        for step in run.steps(first_step, grpo.steps):
            await guard.begin(step)
            stream.start(version=step)
            taken = await stream.take()

            with guard.measure("update"):
                batch = policy_batch(taken.groups, grpo, rules, await kl_in_reward(learner, taken.groups, grpo, ask.temperature))
                await run.checkpoints.wait_written()  # it was saved while groups were collected
                learned = await learner.update(batch, grpo) if batch is not None else {}
                if settings.deterministic:
                    await stream.settle()  # which weights a completion meets must not depend on how long the update takes

            with guard.measure("publish"):
                engines = fleet.health()
                published = await fleet.publish(step + 1, await learner.weights())

            metrics = group_metrics(taken.collected) | stream_metrics(taken) | engine_metrics(engines, published) | learned
            metrics |= guard.timings(taken) | await validate(step, collector, settings.evaluation, validation)
            guard.end(step, taken, metrics)


async def kl_in_reward(learner: Learner, groups: Sequence[Group], settings: GRPOSettings, temperature: float) -> torch.Tensor | None:
    """KL to the reference of each episode that can be compared; None where it is not taken off the rewards."""
    if not settings.kl_coef or settings.kl_in == "loss" or not (scored := scored_episodes(groups)):
        return None
    rows = token_rows(scored)
    reference_BT = await learner.logprobs(rows, temperature=temperature, reference=True)
    return episode_kl([episode for _, _, episode in scored], reference_BT, rows.loss_mask_BT, settings.kl_kind)


def group_stream(collector: Collector, settings: TrainerSettings, train: Sequence[Problem], collected: StreamState | None) -> GroupStream:
    """The run's groups by their positions in the data."""
    grpo = settings.grpo

    async def collect(position: int) -> Group:
        tag = tag_at(position, train, grpo.problems_per_step)
        group = await collector.group(problem_at(position, train, settings.seed), tag)
        if grpo.credit == "round":
            return with_round_scores(group, collector.reward)
        return await with_edits(group, tag, collector, grpo.span_edits) if grpo.credit == "span" else group

    return GroupStream(
        collect,
        stream_limits(settings),
        last_step=grpo.steps,
        state=collected,
        flat=flat_rule(grpo),
        history=flat_history(settings, train, collected.flat_in_a_row if collected else None),
    )


async def validate(step: int, collector: Collector, settings: EvaluationSettings, problems: Sequence[Problem]) -> dict[str, float]:
    """One completion for each of some validation problems, every ``every_steps`` steps; nothing in between."""
    if not settings.every_steps or (step + 1) % settings.every_steps:
        return {}
    some, temperature = problems[: settings.quick_size], settings.temperature or 0.0
    return evaluation_metrics(await evaluate_policy(collector, some, tag="validation", runs=1, temperature=temperature))
