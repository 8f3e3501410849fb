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
    yield from problems
    if not problems and names_of_own(grpo):
        from trainer.algorithm.trial import problems_of_own

        yield from problems_of_own(grpo)
