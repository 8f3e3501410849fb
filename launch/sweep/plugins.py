"""``launch.train -m`` as Hydra runs it: a launcher that starts a process a trial on one Ray, and a sweeper that asks Optuna.

``hydra/launcher=flowreasoner`` is the default, under Hydra's own sweeper (every combination of the values) or under
``hydra/sweeper=optuna``, which ``sweep=optuna`` chooses. A trial gets the overrides that the sweeper made, and its folder
``hydra.sweep.dir``/``hydra.sweep.subdir``.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.completion_plugin import CompletionPlugin
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from conf.schema import Config
from launch.compose import PLUGINS, as_given, check_composed, quote
from launch.shell import Interrupted
from launch.sweep.completion import ModuleCompletion, StockCompletion
from launch.sweep.trials import MANIFEST, Grid, Source, Trial, name_of
from rollout.policy_files import is_url
from trainer.run.lock import hold, probe


def register_plugins() -> None:
    """Makes the launcher, the sweeper and the completion of ``python -m`` known to Hydra."""
    plugins = Plugins.instance()
    sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))  # a folder of that name would be loaded by others' Hydra commands
    sys.modules[PLUGINS] = sys.modules[__name__]
    completions = plugins.plugin_type_to_subclass_list[CompletionPlugin]
    completions[:] = [plugin for plugin in completions if plugin.__name__ != StockCompletion.__name__]  # Hydra refuses two for one shell
    for plugin in (TrialLauncher, OptunaSweeper, ModuleCompletion):
        plugins.register(plugin)


def refuse_other_launchers() -> None:
    """For what Hydra calls to run one configuration: in a sweep, only a launcher other than ours calls it.

    Raises:
        ValueError: this is a sweep.
    """
    config = HydraConfig.get()
    if config.mode is RunMode.MULTIRUN:
        raise ValueError(
            f"hydra/launcher={config.runtime.choices['hydra/launcher']} runs trials in ways in which they would meet in one process: "
            "leave it out; sweep.parallel=1 runs them one after another."
        )


class TrialLauncher(Launcher):
    """Starts a process a trial, as many side by side as one Ray holds; finished trials are left alone, others go on."""

    __module__ = PLUGINS

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Hydra. Takes hold of the sweep's folder.

        Raises:
            ValueError: this is no sweep, or its folder is another's.
        """
        self._loader, self._config = hydra_context.config_loader, config
        self.folder = Path(str(config.hydra.sweep.dir)).expanduser().absolute()
        self.fixed, self.swept = split_swept(config)
        self._refuse_what_is_not_ours()
        if not (self.folder / MANIFEST).exists():
            probe(self.folder)
        self.lock = hold(self.folder)

    def _refuse_what_is_not_ours(self) -> None:
        config, folder = self._config, self.folder
        all_given = as_given(config.hydra.overrides.task) + as_given(config.hydra.overrides.hydra)
        named = {"trainer.run_dir", "hydra.sweep.dir"} & {_name(text) for text in all_given}
        if is_url(str(config.hydra.sweep.dir)):
            raise ValueError(f"trainer.run_dir={config.hydra.sweep.dir!r} is a URL: give a sweep a path, on storage that all nodes mount.")
        if len(named) > 1:
            raise ValueError("trainer.run_dir and hydra.sweep.dir both name the folder of the sweep: give one of them.")
        if (folder / "config.yaml").exists():
            raise ValueError(f"trainer.run_dir={str(folder)!r} is the folder of a single run: give a sweep a folder of its own.")
        if OmegaConf.select(config, "hydra.sweeper.max_batch_size"):
            raise ValueError("hydra.sweeper.max_batch_size would make trials wait for each other: set sweep.parallel, and leave it out.")
        self._go_on = "the same command" + ("" if named else f" and trainer.run_dir={folder}")
        if config.hydra.sweeper._target_.endswith("BasicSweeper"):
            if config.sweep.trials:
                raise ValueError(f"sweep.trials={config.sweep.trials} is a number for Optuna: add sweep=optuna, or leave it out.")
            for override in self.swept:
                if override.is_interval_sweep():
                    raise ValueError(f"{override.input_line} is an interval: list values, or let Optuna choose with sweep=optuna.")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """See Hydra. Ends the process where trials failed, after all have been tried."""
        self.run(lambda: Grid([self.place(overrides, number) for number, overrides in enumerate(job_overrides)]))
        return [JobReturn(overrides, status=JobStatus.COMPLETED) for overrides in job_overrides]

    def place(self, overrides: Sequence[str], number: int) -> tuple[Trial, Config]:
        """A trial in its folder, with its settings.

        Args:
            overrides: of this trial, as a sweeper makes them. number: for ``hydra.job.num``.

        Raises:
            ValueError: its settings are wrong.
        """
        by_name = {name: value for name, _, value in (text.partition("=") for text in overrides)}
        values = tuple((name, by_name[name]) for name in (override.get_key_element() for override in self.swept))
        config = self._loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = name_of(values), number
        HydraConfig.instance().set_config(config)
        subdir = str(config.hydra.sweep.subdir)
        with open_dict(config):
            del config["hydra"]
        config.trainer.run_dir = str(self.folder / subdir)
        config.logger.wandb_group = config.logger.wandb_group or self.folder.name
        settings = check_composed(config)
        rest = [f"trainer.run_dir={quote(settings.trainer.run_dir)}", f"logger.wandb_group={quote(str(settings.logger.wandb_group))}"]
        mine = [text for text in overrides if not _is_of_the_sweep(_name(text))]
        return Trial((*self._flags(), *mine, *rest), values, subdir, self.folder / subdir), settings

    def _flags(self) -> list[str]:
        """What makes a trial's process find the same configuration: Hydra's flags and settings of this command."""
        runtime = self._config.hydra.runtime
        paths = {source.provider: source.path for source in runtime.config_sources}
        extra = ["--config-dir", paths["command-line"]] if "command-line" in paths else []
        hydra = [text for text in as_given(self._config.hydra.overrides.hydra) if not text.startswith(("hydra.mode=", "hydra.sweep"))]
        return ["--config-path", paths["main"], "--config-name", self._config.hydra.job.config_name, *extra, *hydra]

    def run(self, make_source: Callable[[], Source]) -> None:
        """Runs all trials that are not finished and writes the sweep's report; ends the process where one failed.

        Raises:
            ValueError: wrong settings, or a cluster that holds no trial; nothing was started.
        """
        from launch.sweep.run import Sweep
        from trainer.cluster.sweep import sweep_cluster

        try:
            source = make_source()
            _refuse_shared_port(source.settings)
            sweep = Sweep(self.folder, as_given(self._config.hydra.overrides.task), source)
            if source.settings:
                with sweep_cluster(source.settings, source.settings[0].sweep.parallel) as shared:
                    sweep.run(shared)
            code = sweep.close()
        except KeyboardInterrupt:
            raise Interrupted(f"Go on with {self._go_on}") from None
        finally:
            os.close(self.lock)
            self._leave_nothing_of_a_refused_sweep()
        if code:
            sys.exit(code)

    def _leave_nothing_of_a_refused_sweep(self) -> None:
        if not (self.folder / MANIFEST).exists():
            for name in (".lock", "multirun.yaml"):
                (self.folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.folder.rmdir()


class OptunaSweeper(Sweeper):
    """Trials that Optuna chooses, each as soon as there is room for it."""

    __module__ = PLUGINS

    def __init__(self, params: Mapping[str, str] | None) -> None:
        """
        Args:
            params: more overrides with several values, as Hydra's own sweeper takes them; read from the configuration.
        """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Hydra."""
        launcher = Plugins.instance().instantiate_launcher(hydra_context=hydra_context, task_function=task_function, config=config)
        if not isinstance(launcher, TrialLauncher):
            raise ValueError(
                "sweep=optuna starts a trial when another ends, as hydra/launcher=flowreasoner does alone: leave out the other."
            )
        self._launcher = launcher

    def sweep(self, arguments: list[str]) -> None:
        """See Hydra."""
        from launch.sweep.search import Search  # Optuna takes a second to import

        launcher = self._launcher
        launcher.run(lambda: Search(launcher.folder, launcher.fixed, launcher.swept, launcher.place))


def split_swept(config: DictConfig) -> tuple[list[str], list[Override]]:
    """Overrides of a sweep that are the same for all trials, and those with several values.

    Raises:
        ValueError: nothing is swept, or something that trials share.
    """
    params = [f"{name}={values}" for name, values in (config.hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*params, *as_given(config.hydra.overrides.task)])
    overrides = list({override.get_key_element(): override for override in parsed}.values())  # the last of each, as Hydra's sweeper has it
    swept = [override for override in overrides if override.is_sweep_override()]
    for override in swept:
        if _is_of_the_sweep(override.key_or_group):
            raise ValueError(f"{override.input_line} cannot differ between the trials of a sweep: give it one value.")
    if not swept:
        raise ValueError("A sweep (-m) needs a setting with several values, for example trainer.seed=1,2,3.")
    return [str(override.input_line) for override in overrides if override not in swept], swept


def _name(override: str) -> str:
    return override.lstrip("+").partition("=")[0]


def _is_of_the_sweep(name: str) -> bool:
    return name in ("sweep", "trainer.run_dir") or name.startswith("sweep.")


def _refuse_shared_port(trials: Sequence[Config]) -> None:
    for settings in trials:
        if settings.simulated.port and settings.sweep.parallel != 1 and settings.worker.base_url is None:
            raise ValueError(
                f"simulated.port={settings.simulated.port} cannot serve several trials at once: leave it at 0 (any free port), "
                "or set sweep.parallel=1."
            )
