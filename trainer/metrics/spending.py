"""What the worker calls of GRPO have cost, and the pause before they cost too much."""

from collections.abc import Iterable, Mapping
from typing import Any

RECENT = 3
"""Steps whose dearest one is what the next step is expected to cost."""


class Spending:
    """Dollars of each finished GRPO step of a run, those of earlier sessions and those that were done again included.

    What a killed session paid for a step that it did not finish is not known to it. Groups that a checkpoint holds are paid for once
    and counted by the step that learns them, so twice where that step is done again: there the sum errs to the safe side.
    """

    def __init__(
        self, place: str, max_dollars: float | None, earlier: Iterable[Mapping[str, Any]] = (), rolled_back_dollars: float = 0.0
    ) -> None:
        """
        Args:
            place: what to give as ``trainer.run_dir`` to go on.
            earlier: rows of metrics.jsonl of the steps before.
            rolled_back_dollars: cost of steps that are no longer there, since they are done again.
        """
        self._steps = [float(row.get("spend/dollars") or 0.0) for row in earlier]
        self._rolled_back_dollars = rolled_back_dollars
        self._place = place
        self._max_dollars = max_dollars

    @property
    def dollars(self) -> float:
        """Spent so far."""
        return self._rolled_back_dollars + sum(self._steps)

    def add(self, dollars: float) -> None:
        """One more finished step."""
        self._steps.append(dollars)

    def overspends(self, steps: int = 1) -> bool:
        """True where that many more steps, those collected ahead among them, would be expected to go beyond the limit."""
        return self._max_dollars is not None and self.dollars + steps * max(self._steps[-RECENT:], default=0.0) > self._max_dollars

    def pause(self, step: int) -> ValueError:
        """The sentence with which a run that would overspend ends."""
        return ValueError(
            f"trainer.max_dollars={self._max_dollars:g} is nearly spent: {self.dollars:.4g} dollars after step {step}, and a step costs "
            f"up to {max(self._steps[-RECENT:], default=0.0):.3g}. The run is paused with a checkpoint; go on with: "
            f"python -m launch.train trainer.run_dir={self._place} trainer.max_dollars=..."
        )
