"""What a judge found, before it becomes a verdict."""

from typing import NamedTuple


class Examined(NamedTuple):
    """Test by test."""

    results: list[str | None]
    """What is wrong; None where the test passed."""
    late: bool
    """True where a deadline of the clock ended a test: on a machine with less to do it might have ended otherwise."""
