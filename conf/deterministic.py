"""What ``trainer.deterministic`` takes of other settings."""

from collections.abc import Iterator

from trainer.settings import RunSettings


def problems_of_deterministic(config: RunSettings) -> Iterator[str]:
    """A sentence for each setting under which a run cannot repeat itself."""
    if not config.trainer.deterministic:
        return
    by_the_clock = {
        "trainer.late_share": (config.trainer.late_share, 0.0),
        "rollout.in_flight": (config.rollout.in_flight, "finish"),
        "reward.weights.latency": (config.reward.weights.latency, 0.0),
    }
    for name, (value, wanted) in by_the_clock.items():
        if value != wanted:
            yield f"trainer.deterministic=true cannot hold with {name}={value}, which depends on the clock: set it to {wanted}."
