"""Every setting of a run, checked: unknown and ill-typed ones, and those that do not fit each other.

Settings are declared beside the code that reads them and composed in ``trainer.settings.RunSettings``. This module
adds what only the whole can say, and turns every problem into one sentence with the name, the value and the remedy.
It does not know Hydra: it takes the plain mapping that ``launch.compose`` made.
"""

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from conf.crosschecks import problems_between_settings
from conf.sentences import sentence
from rollout.prompt.template import with_text
from trainer.engines.platform import select_platform
from trainer.settings import RunSettings
from workflow.registry import GROUP, load_plugins

PLUGINS = ("rollout.nano.plugin",)
"""What comes with the product and is announced like anything that a package adds."""


class Config(RunSettings):
    """A run's settings that have passed every check; made by ``load``."""


def load(values: Mapping[str, Any], *, trains: bool = True) -> Config:
    """The settings from a nested mapping as YAML gives it; what it leaves out keeps its declared default.

    Types are strict: a text is no number, ``true`` is no 1. A whole number may stand for a float.

    Args:
        trains: False for a command that does not run the stages; see ``conf.crosschecks``.

    Raises:
        ValueError: one sentence per problem, all problems at once, one a line.
    """
    try:
        text = json.dumps(values, allow_nan=True)
    except TypeError as error:
        raise ValueError(f"A setting has a value that YAML cannot hold ({error}).") from None
    try:
        config = Config.model_validate_json(text, strict=True)
    except ValidationError as error:
        described = {name: description for name, _, description in list_settings()}
        raise ValueError("\n".join(sentence(item, described) for item in error.errors())) from None
    if config.trainer.imports or any(entry_points(group=GROUP)):
        select_platform()  # one of them may import verl
    load_plugins((*PLUGINS, *config.trainer.imports))
    config = _with_prompts(config)
    problems = problems_between_settings(config, trains=trains)
    if problems:
        raise ValueError("\n".join(problems))
    return config


def _with_prompts(config: Config) -> Config:
    """The settings with the texts of prompts that are files of the user's: a run keeps what it reads."""
    model = config.model.model_copy(update={"meta_prompt": with_text(config.model.meta_prompt)})
    distil = config.distil.model_copy(update={"prompt": None if config.distil.prompt is None else with_text(config.distil.prompt)})
    return config.model_copy(update={"model": model, "distil": distil})


def list_settings(model: type[BaseModel] = RunSettings, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting as (dotted name, default, description), in the order of declaration."""
    for name, field in model.model_fields.items():
        dotted = f"{prefix}{name}"
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from list_settings(annotation, f"{dotted}.")
        else:
            yield dotted, field.default, field.description or ""


def defaults() -> dict[str, Any]:
    """All declared defaults as plain values, nested."""
    return RunSettings().model_dump(mode="json")
