"""A sink and callback: a table of rewards in the run folder, and an end to training once nothing is left to learn."""

from trainer.run.sinks import SINKS, Metrics, Opening, Sink, StopTraining


@SINKS.register("rewards_csv")
class RewardsCsv(Sink):
    """Writes a line a step, and ends GRPO when three steps in a row pass everything."""

    def __init__(self, opening: Opening) -> None:
        self.file = (opening.folder / "rewards.csv").open("a", encoding="utf-8")
        self.perfect = 0

    def write(self, stage: str, step: int, metrics: Metrics) -> None:
        if stage != "grpo":
            return
        self.file.write(f"{step},{metrics.get('reward/mean', float('nan')):.4f}\n")
        self.file.flush()
        self.perfect = self.perfect + 1 if metrics["outcome/passed"] == 1 else 0
        if self.perfect == 3:
            raise StopTraining("three steps in a row passed everything")

    def close(self) -> None:
        self.file.close()
