"""From Hydra's groups and overrides to checked settings, and from Hydra's errors to sentences."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.schema import Config, defaults, list_settings, load
from conf.sentences import nearest, remedy_for_unknown
from launch import ROOT

CONF = ROOT / "conf"
PLUGINS = "hydra_plugins.flowreasoner"
"""The name by which Hydra knows ``launch.sweep.plugins``: it takes launchers and sweepers of the package ``hydra_plugins`` alone."""
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and any(folder.glob("*.yaml")))


def register_configs() -> None:
    """Makes known to Hydra what conf/ names: the declared defaults (``settings``) and what runs sweeps (``launch.sweep.plugins``)."""
    node = OmegaConf.create(defaults())
    for name in ["reward.weights", *(name for name, default, _ in list_settings() if isinstance(default, dict))]:
        OmegaConf.set_struct(OmegaConf.select(node, name), False)  # such mappings take any name
    store = ConfigStore.instance()
    store.store(name="settings", node=node)
    store.store(group="hydra/launcher", name="flowreasoner", node={"_target_": f"{PLUGINS}.TrialLauncher"})
    store.store(group="hydra/sweeper", name="optuna", node={"_target_": f"{PLUGINS}.OptunaSweeper", "params": None})


def chooses_group(override: str) -> bool:
    """True where the override chooses a file of a group rather than a value."""
    return re.split("[=@]", override.lstrip("+~"))[0] in GROUPS


def as_given(overrides: Any) -> list[str]:
    """A list of overrides in Hydra's configuration, as the command has them: what they refer to is not put in."""
    texts = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Around what Hydra does: its errors become ValueErrors of one sentence."""
    try:
        yield
    except HydraException as error:
        raise ValueError(_sentence(error)) from None


def _sentence(error: HydraException) -> str:
    first, _, rest = str(error).strip().partition("\n")
    if isinstance(error, OverrideParseException):
        if "=" not in error.override:
            return f"{error.override!r} is no setting: write name=value, for example trainer.seed=1."
        return f"Cannot read {error.override!r}: write name=value and put special characters in quotes, for example 'name=\"a, b\"'."
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        hint = nearest(Path(error.missing_cfg_file).name, error.options)
        remedy = f"did you mean {hint}?" if hint else f"options: {', '.join(error.options)}."
        return f"{'='.join(error.missing_cfg_file.rsplit('/', 1))}: there is no such option; {remedy}"
    if several := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", first):
        key, _, values = several[1].partition("=")
        other = "or give one" if chooses_group(key) else f"or write '{key}=[{values}]' for a list, '{key}=\"{values}\"' for a text"
        return f"{key}={values} gives several values: add -m for a sweep over them, {other}."
    if unknown := re.search("Could not override '([^'@]+)", first):
        name, given = unknown[1], rest.rpartition(" use +")[2] or unknown[1]
        if name in GROUPS:
            return f"{given} chooses a group, but this run's settings are fixed: change single values, like worker.model=..."
        return f"{given}: there is no such setting; {remedy_for_unknown(name, [*(name for name, *_ in list_settings()), *GROUPS])}"
    return first


def check_composed(config: DictConfig, *, trains: bool = True) -> Config:
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


def compose_settings(overrides: Sequence[str] = (), *, config: str = "config", trains: bool = True) -> Config:
    """Settings as ``launch.train`` with these overrides has them, without running anything.

    Raises:
        ValueError: one sentence per problem.
    """
    register_configs()
    GlobalHydra.instance().clear()
    with errors_as_sentences(), initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
        return check_composed(compose(config, list(overrides)), trains=trains)


def load_saved(run_dir: Path, overrides: Sequence[str] = (), *, trains: bool = True) -> Config:
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
    values.get("distil", {}).setdefault("rounds", 1)  # saved before a teacher had several
    values.get("reward", {}).setdefault("require_worker", False)  # saved before answers had to come from a worker
    for name, value in {"kl_kind": "k3", "flat_groups": "keep"}.items():  # what GRPO did before there was a choice
        values.get("trainer", {}).get("grpo", {}).setdefault(name, value)
    ConfigStore.instance().store(name="saved", node={"defaults": ["settings", "_self_"], **values})
    return compose_settings([*overrides, f"trainer.run_dir={quote(run_dir)}"], config="saved", trains=trains)


def quote(text: str) -> str:
    """A text as a value in Hydra's grammar."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
