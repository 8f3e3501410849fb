"""The settings of the demo, which most tests that need a whole run's settings start from."""

from collections.abc import Mapping
from typing import Any

from launch.compose import compose_settings
from rollout.settings import ModelSettings

DEMO = compose_settings()


def demo_model(**changes: Any) -> ModelSettings:
    """The demo's model settings with changes."""
    return DEMO.model.model_copy(update=changes)


def demo_values(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The demo's settings as plain values with nested changes."""
    return _merged(DEMO.model_dump(mode="json"), changes)


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(values)
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(out.get(name), Mapping)
        out[name] = _merged(out[name], value) if nested else value
    return out
