"""What ``trainer.grpo.credit`` takes of other settings."""

from collections.abc import Iterator

from trainer.settings import RunSettings


def problems_of_credit(config: RunSettings) -> Iterator[str]:
    """A sentence where the credit that is asked for cannot be given."""
    credit = config.trainer.grpo.credit
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
