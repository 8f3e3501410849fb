"""``python -m launch.train [name=value ...]``: distil, SFT, GRPO, evaluate, report.

Hydra composes conf/, the schema checks it, ``trainer.stages.train`` runs it. With ``trainer.run_dir`` of an earlier
run, that run goes on with its own settings; ``-m name=a,b,c`` is a sweep (``launch.sweep.run``). ``seed=1`` is short for
``trainer.seed=1``.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from conf.schema import Config
from launch.compose import CONF, checked, for_hydra, is_group, parse, register_defaults, saved, with_overrides
from launch.shell import Interrupted, ended_by, one_sentence_errors
from rollout.policy_files import is_url
from trainer.run.at_url import settings_at

if TYPE_CHECKING:
    from trainer.run.folder import RunFolder

FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--info", "-i")


def run(settings: Config) -> int:
    """One training run in its folder; returns the exit code."""
    from trainer.run.folder import RunFolder

    with RunFolder.open(settings) as folder:
        try:
            return _train_and_report(settings, folder)
        except KeyboardInterrupt:
            raise Interrupted(f"Go on with: python -m launch.train trainer.run_dir={folder.place}") from None
        except Exception as error:
            return ended_by(error, folder.path)


def _train_and_report(settings: Config, folder: "RunFolder") -> int:
    from launch.report import write_report
    from trainer.stages import train

    asyncio.run(train(settings, folder))
    report = write_report(folder.path)
    folder.say(f"Report: {report}")
    return 0


def resumed(config: Config, overrides: list[str]) -> Config:
    """The settings of an existing run folder with this command's values on top; else ``config`` as it is.

    A command that chooses groups (``experiment=...``) states a whole recipe: it is taken as given, and the run folder
    refuses it where it differs from the run's own.
    """
    if any(is_group(override) for override in parse(overrides)):
        return config
    run_dir = config.trainer.run_dir
    if is_url(run_dir):
        text = settings_at(run_dir)
        return config if text is None else with_overrides(text, overrides, run_dir)
    return saved(Path(run_dir), overrides) if (Path(run_dir) / "config.yaml").is_file() else config


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's own flags (with their values), and the overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        is_value = bool(flags) and flags[-1] in FLAGS_WITH_VALUE
        (flags if argument.startswith("-") or is_value else overrides).append(argument)
    return flags, overrides


@one_sentence_errors
def main() -> int:
    """Entry point."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach our own shell instead of Hydra's printer
    register_defaults()
    flags, given = split_arguments(sys.argv[1:])
    given = [f"trainer.{text}" if text.startswith("seed=") else text for text in given]
    if {"-m", "--multirun"} & set(flags):
        if len(flags) > 1:
            raise ValueError(f"A sweep takes settings and no other flags (given: {' '.join(flags)}).")
        from launch.sweep.run import run_sweep

        return run_sweep(given)
    codes: list[int] = []
    failures: list[Exception] = []

    @hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
    def job(config: DictConfig) -> None:
        try:
            codes.append(run(resumed(checked(config), given)))
        except Exception as error:
            failures.append(error)  # raised below: Hydra would print its own words about it

    argv = sys.argv
    sys.argv = [argv[0], *flags, *for_hydra(given)]
    try:
        job()
    except HydraException as error:
        raise ValueError(str(error).strip().splitlines()[0]) from None
    finally:
        sys.argv = argv
    if failures:
        raise failures[0]
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main())
