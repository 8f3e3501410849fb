"""``python -m launch.train [name=value ...]``: distil, SFT, GRPO, evaluate, report.

Hydra composes conf/, the schema checks it, ``trainer.stages.train`` runs it. With ``trainer.run_dir`` of an earlier
run, that run goes on with its own settings; ``-m name=a,b,c`` is a sweep (``launch.sweep.plugins``). ``seed=1`` is short for
``trainer.seed=1``.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from conf.schema import Config
from launch.compose import CONF, as_given, check_composed, chooses_group, errors_as_sentences, load_saved, register_configs, with_overrides
from launch.shell import Interrupted, one_sentence_errors, report_error
from launch.sweep.plugins import refuse_other_launchers, register_plugins
from rollout.policy_files import is_url
from trainer.run.at_url import settings_at

if TYPE_CHECKING:
    from trainer.run.folder import RunFolder


def run(settings: Config) -> int:
    """One training run in its folder; returns the exit code."""
    from trainer.run.folder import RunFolder

    with RunFolder.open(settings) as folder:
        try:
            return _train_and_report(settings, folder)
        except KeyboardInterrupt:
            raise Interrupted(f"Go on with: python -m launch.train trainer.run_dir={folder.place}") from None
        except Exception as error:
            return report_error(error, folder.path)


def _train_and_report(settings: Config, folder: "RunFolder") -> int:
    from launch.report.page import write_report
    from trainer.stages import train

    asyncio.run(train(settings, folder))
    report = write_report(folder.path)
    folder.say(f"Report: {report}")
    return 0


def resume_settings(config: Config, overrides: Sequence[str]) -> Config:
    """The settings of an existing run folder with this command's values on top; else ``config`` as it is.

    A command that chooses groups (``experiment=...``) states a whole recipe: it is taken as given, and the run folder
    refuses it where it differs from the run's own.
    """
    run_dir = config.trainer.run_dir
    if any(map(chooses_group, overrides)):
        return config
    if is_url(run_dir):
        text = settings_at(run_dir)
        return config if text is None else with_overrides(text, overrides, run_dir)
    return load_saved(Path(run_dir), overrides) if (Path(run_dir) / "config.yaml").is_file() else config


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def job(config: DictConfig) -> None:
    """What Hydra calls for a single run; ends the process where the run fails, before Hydra prints words of its own."""
    try:
        refuse_other_launchers()
        code = run(resume_settings(check_composed(config), as_given(HydraConfig.get().overrides.task)))
    except Exception as error:
        code = report_error(error)
    if code:
        sys.exit(code)


@one_sentence_errors
def main() -> int:
    """Entry point."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach our own shell instead of Hydra's printer
    register_configs()
    register_plugins()
    sys.argv[1:] = [f"trainer.{text}" if text.startswith("seed=") else text for text in sys.argv[1:]]
    with errors_as_sentences():
        job()
    return 0


if __name__ == "__main__":
    sys.exit(main())
