"""What a run folder remembers between sessions, and which settings a resumed run may change."""

import functools
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from trainer.settings import RunSettings
from workflow.atomic import replace_file
from workflow.settings import MAY_CHANGE


@dataclass
class RunState:
    """``state.json``; rewritten as a whole, by renaming, so that a crash leaves the old or the new one."""

    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Finished stages with what they noted."""
    wall_s: float = 0.0
    """Seconds of all sessions so far."""
    run_id: str = field(default_factory=lambda: secrets.token_hex(4))
    """Names the run in W&B."""
    rolled_back_dollars: float = 0.0
    """What GRPO steps cost that were done again after a resume: that money is spent too."""
    last_fault: str = ""
    """Why infrastructure failed in the last step of which no episode could be judged."""
    tracked: dict[str, int] = field(default_factory=dict)
    """The last step of each stage that W&B was given before the stage was rolled back."""

    @classmethod
    def read(cls, file: Path) -> "RunState":
        """The state in ``file``; a fresh one where there is none.

        Raises:
            ValueError: the file is not ours.
        """
        if not file.exists():
            return cls()
        try:
            return cls(**json.loads(file.read_text()))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"{file} is damaged ({error}): remove the run folder or give another trainer.run_dir.") from None

    def text(self) -> str:
        """The content of ``state.json``."""
        return json.dumps(asdict(self), indent=1)

    def roll_back(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Before these rows of metrics.jsonl are dropped: keeps their cost, and that W&B already has them."""
        for row in rows:
            self.rolled_back_dollars += row.get("spend/dollars") or 0.0
            self.tracked[row["stage"]] = max(row["step"], self.tracked.get(row["stage"], -1))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names; lists are values."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted names of settings that differ, with both values. One that ``before`` lacks is no change, but a weight of a term is then 0."""
    old, new = flat(before), flat(now)
    for name in _mappings(RunSettings):  # compared as a whole: names that one of them lacks make a difference, too
        for values, settings in ((old, before), (new, now)):
            whole: Any = functools.reduce(lambda part, key: (part or {}).get(key), name.split("."), settings)
            for inner in [key for key in values if key.startswith(f"{name}.")]:
                del values[inner]
            if whole is not None:
                values[name] = whole
    weights = {name: 0.0 for name in (*old, *new) if name.startswith("reward.weights.")}
    old, new = weights | old, weights | new
    for values, settings in ((old, before), (new, now)):
        values["workers"] = sorted(settings.get("workers") or {})
    return {name: (old[name], new[name]) for name in old if name in new and old[name] != new[name]}


def _mappings(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Settings that are mappings of plain values by names of the user's."""
    for name, known in kind.model_fields.items():
        if get_origin(known.annotation) is dict and not issubclass(get_args(known.annotation)[1], BaseModel):
            yield f"{prefix}{name}"
        elif isinstance(known.annotation, type) and issubclass(known.annotation, BaseModel):
            yield from _mappings(known.annotation, f"{prefix}{name}.")


def may_change(name: str) -> bool:
    """True where a resumed run may have another value of the setting: where it, or what it is part of, is a ``MayChange``."""
    kind: Any = RunSettings
    for part in name.split("."):
        if get_origin(kind) is dict:  # the part is a name of the user's, as in workers.large
            kind = get_args(kind)[1]
            continue
        field = getattr(kind, "model_fields", {}).get(part)
        if field is None or MAY_CHANGE in field.metadata:
            return field is not None
        kind = field.annotation
    return False


def adopt_settings(folder: Path, now: Mapping[str, Any], state: RunState) -> None:
    """Writes config.yaml, and reopens the stages that changed settings concern.

    Raises:
        ValueError: the run in ``folder`` has begun, with other values of settings that change what it computes.
    """
    file = folder / "config.yaml"
    begun = bool(state.stages) or any((folder / name).exists() for name in ("traces.jsonl", "metrics.jsonl"))
    if begun and file.exists():
        changed = changes(yaml.safe_load(file.read_text()), now)
        refused = [f"{name}={new!r} (was {old!r})" for name, (old, new) in changed.items() if not may_change(name)]
        if refused:
            raise ValueError(
                f"The run in {folder} was started with other settings: {'; '.join(refused)}. "
                "Leave them as they were, or give a new trainer.run_dir."
            )
        _reopen_stages(state, changed)
    replace_file(file, yaml.safe_dump(dict(now), sort_keys=False, allow_unicode=True))


def _reopen_stages(state: RunState, changed: Mapping[str, tuple[Any, Any]]) -> None:
    """More GRPO steps reopen GRPO and the evaluation; other evaluation settings reopen the evaluation."""
    old_steps, new_steps = changed.get("trainer.grpo.steps", (0, 0))
    if new_steps > old_steps:
        state.stages.pop("grpo", None)
    if new_steps > old_steps or any(name.startswith("trainer.evaluation.") for name in changed):
        state.stages.pop("evaluate", None)
