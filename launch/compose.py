"""From the command line to checked settings: Hydra's groups and overrides, then the schema.

The only place besides ``launch.train`` that knows Hydra. Overrides reach Hydra as forced ones (``++name=value``), so
that a misspelt setting is answered by the schema, with the nearest right name, and not by Hydra's own error.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.schema import Config, defaults, load
from conf.sentences import nearest
from launch import ROOT

CONF = ROOT / "conf"
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and any(folder.glob("*.yaml")))


def register_defaults() -> None:
    """Makes the declared defaults known to Hydra as the config ``settings``, the first entry of conf/config.yaml."""
    ConfigStore.instance().store(name="settings", node=defaults())


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides in Hydra's grammar.

    Raises:
        ValueError: not an override, a group that does not exist, or an option that its group lacks.
    """
    parsed: list[Override] = []
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise ValueError(f"{text!r} is no setting: write name=value, for example trainer.seed=1.")
        try:
            parsed.append(OverridesParser.create().parse_override(text))
        except HydraException:
            raise ValueError(
                f"Cannot read {text!r}: write name=value and put special characters in quotes, for example 'name=\"a, b\"'."
            ) from None
    for override in parsed:
        _check_group(override)
    return parsed


def _check_group(override: Override) -> None:
    key = override.key_or_group.split("@")[0]
    if is_group(override):
        options = sorted(file.stem for file in (CONF / key).glob("*.yaml"))
        value = override.value()
        chosen = [str(item) for item in (value if isinstance(value, list) else [value])] if not override.is_sweep_override() else []
        for name in chosen:
            if name not in options and value is not None:
                hint = nearest(name, options)
                remedy = f"did you mean {hint}?" if hint else f"options: {', '.join(options)}."
                raise ValueError(f"{key}={name}: there is no such option; {remedy}")
    elif "." not in key and key not in defaults() and (hint := nearest(key, GROUPS)):
        raise ValueError(f"{override.input_line}: there is no group {key}; did you mean {hint}?")


def refuse_several(overrides: Sequence[Override]) -> None:
    """Raises ValueError where an override gives several values, as only a sweep takes them."""
    for override in overrides:
        if override.is_sweep_override():
            key, values = override.key_or_group, str(override.input_line).partition("=")[2]
            other = "or give one" if is_group(override) else f"or write '{key}=[{values}]' for a list, '{key}=\"{values}\"' for a text"
            raise ValueError(f"{key}={values} gives several values: add -m for a sweep over them, {other}.")


def is_group(override: Override) -> bool:
    """True where the override chooses a file of a group rather than a value."""
    return override.key_or_group.split("@")[0] in GROUPS


def for_hydra(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra gets them: values forced, groups and Hydra's own settings as they are."""
    out: list[str] = []
    parsed = parse(overrides)
    refuse_several(parsed)
    for text, override in zip(overrides, parsed, strict=True):
        is_value = override.type is OverrideType.CHANGE and not is_group(override) and not override.key_or_group.startswith("hydra")
        out.append(f"++{text}" if is_value else text)
    return out


def checked(config: DictConfig, *, trains: bool = True) -> Config:
    """A composed configuration as checked settings.

    Args:
        trains: False for a command that does not run the stages; see ``conf.crosschecks``.

    Raises:
        ValueError: one sentence per problem.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        raise ValueError(f"{key or 'A setting'} cannot be resolved: {str(error).splitlines()[0]}.") from None
    assert isinstance(values, dict)
    return load({str(key): value for key, value in values.items()}, trains=trains)


def composed(overrides: Sequence[str] = ()) -> Config:
    """Settings as ``launch.train`` with these overrides has them, without running anything.

    Raises:
        ValueError: one sentence per problem.
    """
    register_defaults()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
            return checked(compose("config", for_hydra(overrides)))
    except HydraException as error:
        raise ValueError(str(error).splitlines()[0]) from None


def saved(run_dir: Path, overrides: Sequence[str] = (), *, trains: bool = True) -> Config:
    """The settings of a run folder with value overrides on top; the folder itself may have moved.

    Raises:
        ValueError: no such run, or one sentence per problem.
    """
    file = run_dir / "config.yaml"
    if not file.is_file():
        raise ValueError(f"{run_dir} is not a run folder (it has no config.yaml): give a folder that launch.train made.")
    return with_overrides(file.read_text(), overrides, str(run_dir), trains=trains)


def with_overrides(text: str, overrides: Sequence[str], run_dir: str, *, trains: bool = True) -> Config:
    """The settings of a config.yaml with value overrides on top, for the run at ``run_dir``.

    Raises:
        ValueError: one sentence per problem.
    """
    values = yaml.safe_load(text)
    for section in {"worker", "distil"} & values.keys():  # saved before there were providers: without a URL the simulated worker answered
        values[section].setdefault("provider", "endpoint" if values[section].get("base_url") else "simulated")
    config = OmegaConf.create(values)
    parsed = parse(overrides)
    refuse_several(parsed)
    for override in parsed:
        if is_group(override):
            raise ValueError(
                f"{override.input_line} chooses a group, but this run's settings are fixed: change single values, like worker.model=..."
            )
        OmegaConf.update(config, override.key_or_group, _plain(override.value()), force_add=True)
    OmegaConf.update(config, "trainer.run_dir", run_dir)
    assert isinstance(config, DictConfig)
    return checked(config, trains=trains)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
