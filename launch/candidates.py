"""What ``launch.evaluate`` is to evaluate: policies, fixed workflows, and the settings under which it does."""

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from conf.schema import Config
from launch.compose import CONF, compose_settings, with_overrides
from launch.shell import load_run_settings
from rollout.policy_files import is_url
from workflow.aflow import read_workflow_file
from workflow.program import Refusal, Workflow
from workflow.reference import load_reference_workflows


def choose_workflows(names: list[str]) -> dict[str, Workflow]:
    """Reference workflows by name, files by path.

    Raises:
        ValueError: neither a reference workflow nor a readable file, or a file whose workflow is refused.
    """
    known = load_reference_workflows()
    chosen: dict[str, Workflow] = {}
    files: dict[str, Workflow] = {}
    for name in names:
        if name == "all":
            chosen |= known
        elif name in known:
            chosen[name] = known[name]
        elif Path(name).is_file():
            parsed = read_workflow_file(Path(name))
            if isinstance(parsed, Refusal):
                raise ValueError(f"{name} holds no runnable workflow: {parsed.message}")
            files[name] = parsed
        else:
            raise ValueError(f"--workflow {name!r} is neither a file nor one of: {', '.join(known)}, all.")
    return chosen | dict(zip(name_apart([str(Path(name).with_suffix("")) for name in files], chosen), files.values(), strict=True))


def name_apart(paths: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A name for each path: its last part, with as many folders before it as it takes to tell it from the others and from ``taken``."""
    parts = [Path(path).parts if len(Path(path).parts) > 1 else Path(os.path.abspath(path)).parts for path in paths]
    names: list[str] = []
    for own in parts:
        lengths = range(1, len(own) + 1)
        others = [other for other in parts if other is not own]
        alone = (n for n in lengths if all(other[-n:] != own[-n:] for other in others) and "/".join(own[-n:]) not in taken)
        names.append("/".join(own[-next(alone, len(own)) :]))
    return names


def choose_policies(run_dir: Path | None, folders: list[str], *, own: bool) -> dict[str, Path]:
    """Policies to evaluate: the given folders, else (with ``own``) those of the run."""
    for folder in folders:
        if not (Path(folder) / "config.json").exists():
            raise ValueError(f"--policy {folder!r} is not a Hugging Face folder (it has no config.json).")
        if not any(Path(folder).glob("*.safetensors")):
            raise ValueError(f"--policy {folder!r} has no *.safetensors, the form in which engines are given weights: convert it.")
    if folders or not own or run_dir is None:
        apart = list(dict.fromkeys(folders))
        return dict(zip(name_apart(apart), map(Path, apart), strict=True))
    return {
        name: run_dir / sub for name, sub in (("SFT policy", "sft"), ("GRPO policy", "policy")) if (run_dir / sub / "config.json").exists()
    }


def is_run(text: str) -> bool:
    """True for the name of a run, False for an override. Folders of sweeps have ``=`` in their names, too."""
    return "=" not in text or is_url(text) or (Path(text) / "config.yaml").is_file()


def load_settings(run_dir: Path | None, overrides: list[str], worker: str = "") -> Config:
    """The settings of the run, or without one those that groups and values compose; with another worker where one is named.

    Raises:
        ValueError: no such run or worker, or one sentence per problem of a setting.
    """
    files = {file.stem: file for file in sorted((CONF / "worker").glob("*.yaml"))}
    if worker and "=" not in worker and worker not in files:
        raise ValueError(
            f"--worker {worker!r} is neither one of {', '.join(files)} nor values such as 'worker.model=M worker.base_url=URL'."
        )
    more = shlex.split(worker) if "=" in worker else []
    if run_dir is None:
        return compose_settings([*overrides, *more, *([f"worker={worker}"] if worker in files else [])], trains=False)
    settings = load_run_settings(run_dir, [*overrides, *more])
    if worker not in files:
        return settings
    values = yaml.safe_load((run_dir / "config.yaml").read_text()) | {"worker": yaml.safe_load(files[worker].read_text())}
    return with_overrides(yaml.safe_dump(values), overrides, str(run_dir), trains=False)
