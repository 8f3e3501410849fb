"""Records that are read back after they have grown: checkpoints hold those of earlier versions."""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any


def restore(record: Any, state: Sequence[Any]) -> None:
    """Sets the fields of a frozen record from its pickled values, in order; what came later has its default."""
    for index, field in enumerate(fields(record)):
        value = state[index] if index < len(state) else field.default
        assert value is not MISSING, f"{type(record).__name__}.{field.name} has no default: new fields need one"
        object.__setattr__(record, field.name, value)
