"""What the worker calls of GRPO have cost, and the pause before they cost too much."""

from pathlib import Path

from trainer.jsonl import read_rows

RECENT = 3
"""Steps whose dearest one is what the next step is expected to cost."""


class Spending:
    """Dollars of each finished GRPO step of a run, those of earlier sessions included."""

    def __init__(self, run_dir: Path, max_dollars: float | None, place: str = "") -> None:
        """
        Args:
            place: what to give as ``trainer.run_dir`` to go on; left out: the folder.
        """
        rows = read_rows(run_dir / "metrics.jsonl")
        self._steps = [float(row.get("spend/dollars", 0.0)) for row in rows if row.get("stage") == "grpo"]
        self._place = place or str(run_dir)
        self._max_dollars = max_dollars

    @property
    def dollars(self) -> float:
        """Spent so far."""
        return sum(self._steps)

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
