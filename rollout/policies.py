"""Policies that are made in the run folder, by the setting ``model.path``, instead of being loaded from somewhere."""

import re
from collections.abc import Callable
from pathlib import Path

from rollout.settings import RolloutSettings
from workflow.registry import Registry
from workflow.tasks import TaskSet

PolicyMaker = Callable[[Path, TaskSet, RolloutSettings, int], object]
"""Writes a Hugging Face folder (config, weights, tokenizer) for these tasks and rollouts; the number seeds the weights."""

POLICIES: Registry[PolicyMaker] = Registry("model.path")
"""Makers by name; one of the user's own is ``module:name``."""


def is_made(path: str) -> bool:
    """True where ``model.path`` names a maker, False for a folder or a hub id."""
    return path in POLICIES or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", path) is not None
