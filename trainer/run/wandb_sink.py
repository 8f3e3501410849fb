"""A run in W&B: the only file that imports wandb."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from trainer.run.panels import STEPS, family
from trainer.run.sinks import Opening, Sink, wandb_mode

EPISODE_COLUMNS = ("step", "episode", "problem", "level", "outcome", "reward", "calls", "text")
MEASURES = ("reward", "reward_low", "reward_high", "pass_rate", "pass_low", "pass_high", "calls", "cost", "latency")
COMPARED_WITH = ("best fixed workflow", "self-consistency at equal cost")
"""Fixed workflows whose figures stand in the summary too."""
RESULT_COLUMNS = ("name", "kind", "problems", *MEASURES)


class WandbSink(Sink):
    """A W&B run under the run folder's own id, so that a resumed run goes on in it.

    Offline ones lie in ``wandb/`` of the run folder, one a session, and wait for ``wandb sync``, which appends them in their order. Steps
    that a resumed run does again are not given to it twice (``trainer.run.sinks``): its history can only grow.
    """

    def __init__(self, opening: Opening) -> None:
        self.settings = opening.settings.logger
        mode = wandb_mode(self.settings.wandb)
        assert mode is not None, "conf.crosschecks refuses logger.sinks=[wandb] with logger.wandb=off"
        self.run = wandb.init(
            project=self.settings.wandb_project,
            name=opening.folder.name,
            id=opening.run_id,
            group=self.settings.wandb_group,
            job_type="trial" if self.settings.wandb_group else "run",
            resume="allow",
            dir=str(opening.folder),
            mode=mode,
            config=opening.settings.model_dump(mode="json"),
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        self._defined: set[str] = set()
        self._pending: dict[str, Any] = {}
        for step in sorted(set(STEPS.values())):
            self.run.define_metric(step, hidden=True)
        for name, step in STEPS.items():
            self._define(name, step)

    def _define(self, name: str, step: str) -> None:
        """Draws a family, or one metric, over its own step; the summary has the last value."""
        self._defined.add(name)
        self.run.define_metric(name if "/" in name else f"{name}/*", step_metric=step)

    def write(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Takes one step's metrics; a family that is new gets the stage's steps."""
        for name in {family(metric) for metric in metrics} - self._defined:
            self._define(name, f"{stage}/step")
        self.run.log({**metrics, f"{stage}/step": step, **self._pending})
        self._pending = {}

    def alarm(self, step: int, sentence: str) -> None:
        """An alert of the run: a warning where an alarm begins, a note where it is over."""
        level = "WARN" if sentence.startswith("ALARM") else "INFO"
        self.run.alert(title=sentence.partition(":")[0], text=f"Step {step + 1}: {sentence}", level=level, wait_duration=0)

    def episodes(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Every ``wandb_episodes_every`` steps a table of ``wandb_episodes`` episodes, from the worst to the best reward."""
        wanted = self.settings.wandb_episodes
        if wanted and rows and step % self.settings.wandb_episodes_every == 0:
            table = wandb.Table(columns=list(EPISODE_COLUMNS), data=[episode_cells(row) for row in spread(rows, wanted)])
            self._pending["samples/episodes"] = table  # with the step's metrics, in one row of the history

    def results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The final table, and its figures as summary values (``result/grpo_policy/pass_rate``) that runs are compared by."""
        measured = [row for row in rows if "reward" in row]
        self.run.log({"result/table": wandb.Table(columns=list(RESULT_COLUMNS), data=[result_cells(row) for row in measured])})
        for row in (row for row in measured if row["kind"] != "workflow" or row["name"] in COMPARED_WITH):
            name = str(row["name"]).lower().replace(" ", "_").replace("(", "").replace(")", "")
            figures = {key: row[key] for key in ("reward", "pass_rate", "solved", "calls", "cost", "latency") if key in row}
            figures |= {f"terms/{term}": value for term, value in row.get("terms", {}).items()}
            self.run.summary.update({f"result/{name}/{key}": value for key, value in figures.items()})

    def saved(self, kind: str, name: str, folder: Path) -> None:
        """A policy, or a checkpoint where ``wandb_artifacts=checkpoints`` asks for them, as an artifact.

        A policy stays where it is while it is uploaded; a checkpoint is copied first, since newer ones replace it.
        """
        wanted = {"off": (), "policy": ("policy",), "checkpoints": ("policy", "checkpoint")}[self.settings.wandb_artifacts]
        if kind not in wanted:
            return
        artifact = wandb.Artifact(f"{kind}-{self.run.id}", type=kind, metadata={"run": folder.parent.name, "name": name})
        artifact.add_dir(str(folder), policy="immutable" if kind == "policy" else "mutable")
        self.run.log_artifact(artifact, aliases=["latest", name])

    def close(self) -> None:
        """Flushes and lets go."""
        self.run.finish()
        wandb.teardown()


def spread(rows: Sequence[Mapping[str, Any]], wanted: int) -> list[Mapping[str, Any]]:
    """Evenly spaced rows by reward, the worst and the best among them; masked episodes come first."""
    ordered = sorted(rows, key=lambda row: (_total(row) is not None, _total(row) or 0.0))
    if len(ordered) <= wanted:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / max(1, wanted - 1))] for i in range(wanted)]


def episode_cells(row: Mapping[str, Any]) -> list[Any]:
    """A row of episodes.jsonl in the order of ``EPISODE_COLUMNS``."""
    runs = row["runs"]
    calls = sum(run["calls"] for run in runs) / len(runs) if runs else None
    return [row["step"], row["id"], row["problem"], row["level"], row["outcome"], _total(row), calls, row["text"]]


def result_cells(row: Mapping[str, Any]) -> list[Any]:
    """A row of the final table in the order of ``RESULT_COLUMNS``."""
    reward_low, reward_high = row.get("reward_ci", (None, None))
    pass_low, pass_high = row.get("pass_rate_ci", (None, None))
    known = {"reward_low": reward_low, "reward_high": reward_high, "pass_low": pass_low, "pass_high": pass_high}
    return [known[name] if name in known else row.get(name) for name in RESULT_COLUMNS]


def _total(row: Mapping[str, Any]) -> float | None:
    return row["score"]["total"] if row.get("score") else None


def default_entity() -> str:
    """The user or team that the key belongs to. Raises ValueError where W&B does not say."""
    entity = wandb.Api().default_entity
    if not entity:
        raise ValueError("W&B names no entity for this key: give one with --entity.")
    return entity
