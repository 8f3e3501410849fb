"""Checks of the algorithm that GRPO is to run, against the other settings: each problem is one sentence with the values and the remedy."""

from collections.abc import Iterator

from trainer.algorithm.names import names_of_own, problems_of_names
from trainer.settings import RunSettings


def problems_of_algorithms(config: RunSettings) -> Iterator[str]:
    """What stands against GRPO as it is set, where it is to run."""
    if "grpo" not in config.trainer.stages:
        return
    grpo = config.trainer.grpo
    problems = list(problems_of_names(grpo))
    if grpo.advantage == "gdpo" and not config.reward.weights.performance:
        problems.append(
            "trainer.grpo.advantage=gdpo weighs each term by itself, and with reward.weights.performance=0 the floor is in none: "
            "set it above 0, or use trainer.grpo.advantage=grpo."
        )
    if config.rollout.top_p < 1 and grpo.steps:
        problems.append(
            f"rollout.top_p={config.rollout.top_p:g} samples from a part of the policy's distribution, so that its log-probabilities would "
            "not be the learner's: set it to 1.0 to train."
        )
    if grpo.policy_loss == "gpg" and config.trainer.max_staleness:
        problems.append(
            f"trainer.grpo.policy_loss=gpg takes every sample for one of the policy as it is, and with trainer.max_staleness="
            f"{config.trainer.max_staleness} they are of an older one: set max_staleness to 0, or use policy_loss=vanilla."
        )
    problems += problems_of_credit(config)
    yield from problems
    if not problems and names_of_own(grpo):
        from trainer.algorithm.trial import problems_of_own

        yield from problems_of_own(grpo)


def problems_of_credit(config: RunSettings) -> Iterator[str]:
    """A sentence where the credit that is asked for cannot be given."""
    grpo, credit = config.trainer.grpo, config.trainer.grpo.credit
    if credit == "round" and config.rollout.rounds == 1:
        yield (
            "trainer.grpo.credit=round compares the rounds of an episode, and with rollout.rounds=1 there is only one: set rollout.rounds "
            "to 2 or more, or credit=episode."
        )
    if credit == "span" and not config.worker.cache_entries:
        yield (
            "trainer.grpo.credit=span runs workflows again without one of their calls, and with worker.cache_entries=0 the other calls "
            "would be paid for and answered anew: set worker.cache_entries to 1000 or more, or credit=episode."
        )
    if credit != "episode" and grpo.policy_loss == "geo_mean":
        yield (
            f"trainer.grpo.credit={credit} gives the tokens of one response different advantages, and trainer.grpo.policy_loss=geo_mean "
            "takes their mean: use another policy_loss, or credit=episode."
        )
    if credit == "round" and grpo.advantage == "gdpo":
        yield (
            "trainer.grpo.credit=round gives each round one reward, and trainer.grpo.advantage=gdpo wants the terms of each: use "
            "advantage=grpo, or credit=episode."
        )
