"""``python -m launch.evaluate RUN_DIR``: any policy or fixed workflow on the held-out problems of a run.

The rows of the table meet the same problems and the same worker seeds as those of the run's own final table.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from conf.schema import Config
from launch.shell import load_run_settings, one_sentence_errors
from trainer.evaluation.export import MARKER
from trainer.run.at_url import fetch
from trainer.run.terminal import Terminal, quiet_libraries
from workflow.aflow import read_workflow_file
from workflow.program import Refusal, Workflow
from workflow.reference import load_reference_workflows
from workflow.tasks import TaskSet, load_tasks
from workflow.tasks.overlap import find_shared

if TYPE_CHECKING:
    from trainer.evaluation.rows import Row


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m launch.evaluate", description="Evaluate policies and workflows on held-out problems.")
    out.add_argument("run_dir", help="run folder or URL whose settings and policies are used")
    out.add_argument(
        "--policy", action="append", default=[], metavar="FOLDER", help="Hugging Face folder of a policy; default: the run's own"
    )
    out.add_argument(
        "--workflow",
        action="append",
        default=[],
        metavar="FILE",
        help="file with a class Workflow (ours or AFlow's graph.py with its prompt.py), or the name of a reference workflow, or 'all'",
    )
    out.add_argument("--out", type=Path, help="write the rows as JSON to this file")
    out.add_argument("overrides", nargs="*", help="Hydra overrides, for example tasks.test_size=600 trainer.evaluation.runs=4")
    return out


def choose_workflows(names: list[str]) -> dict[str, Workflow]:
    """Reference workflows by name, files by path.

    Raises:
        ValueError: neither a reference workflow nor a readable file, or a file whose workflow is refused.
    """
    known = load_reference_workflows()
    chosen: dict[str, Workflow] = {}
    for name in names:
        if name == "all":
            chosen |= known
        elif name in known:
            chosen[name] = known[name]
        elif Path(name).is_file():
            parsed = read_workflow_file(Path(name))
            if isinstance(parsed, Refusal):
                raise ValueError(f"{name} holds no runnable workflow: {parsed.message}")
            chosen[Path(name).stem] = parsed
        else:
            raise ValueError(f"--workflow {name!r} is neither a file nor one of: {', '.join(known)}, all.")
    return chosen


def choose_policies(run_dir: Path, folders: list[str], *, own: bool) -> dict[str, Path]:
    """Policies to evaluate: the given folders, else (with ``own``) those of the run."""
    for folder in folders:
        if not (Path(folder) / "config.json").exists():
            raise ValueError(f"--policy {folder!r} is not a Hugging Face folder (it has no config.json).")
        if not any(Path(folder).glob("*.safetensors")):
            raise ValueError(f"--policy {folder!r} has no *.safetensors, the form in which engines are given weights: convert it.")
    if folders or not own:
        return {Path(folder).name: Path(folder) for folder in folders}
    return {
        name: run_dir / sub for name, sub in (("SFT policy", "sft"), ("GRPO policy", "policy")) if (run_dir / sub / "config.json").exists()
    }


@one_sentence_errors
def main() -> int:
    """Entry point."""
    options = parser().parse_intermixed_args()
    run_dir = fetch(options.run_dir)
    settings = load_run_settings(run_dir, options.overrides)
    workflows = choose_workflows(options.workflow)
    policies = choose_policies(run_dir, options.policy, own=not options.workflow)
    if not policies and not workflows:
        raise ValueError(f"{run_dir} has no policy yet: give --policy FOLDER or --workflow NAME.")
    quiet_libraries()
    terminal = Terminal()
    rows = asyncio.run(run_evaluation(settings, run_dir, policies, workflows, terminal))
    if options.out:
        options.out.write_text(json.dumps({"rows": rows}, indent=1))
    from trainer.evaluation.rows import refuse_if_all_lost

    refuse_if_all_lost(rows)
    return 0


async def run_evaluation(
    settings: Config, run_dir: Path, policies: dict[str, Path], workflows: dict[str, Workflow], terminal: Terminal
) -> "list[Row]":
    """Prints the table and returns its rows."""

    def say(text: str) -> None:
        terminal.print(text, soft_wrap=True)

    tasks = readable_tasks(settings, run_dir, policies, say)
    for run in dict.fromkeys(filter(None, map(run_of, policies.values()))):
        refuse_trained(tasks, settings, run, say)
    say("Starting engine and sandboxes ..." if policies else "Starting sandboxes ...")
    from trainer.evaluation.table import final_table, print_table
    from trainer.system import System

    first = next(iter(policies.values()), None)
    async with System(settings, policy=first, learner_start=None, log_dir=run_dir, tasks=tasks, say=say) as system:
        rows = await final_table(system, settings, policies, workflows, say=say)
    print_table(rows, terminal)
    return rows


def run_of(policy: Path) -> Path | None:
    """The run folder of a policy: where it was exported from, else the one that it lies in, under whatever name; None for any other."""
    try:
        return Path(json.loads((policy / MARKER).read_text())["run"]).resolve()
    except (OSError, ValueError, KeyError, TypeError):
        above = [*Path(os.path.abspath(policy)).parents, *policy.resolve().parents]  # not the same where links are in the path
        return next((folder.resolve() for folder in above if (folder / "config.yaml").is_file()), None)


def refuse_trained(tasks: TaskSet, settings: Config, run_dir: Path, say: Callable[[str], None]) -> None:
    """Raises ValueError where other tasks than a run's own are given, and the run was trained on some of their test problems."""
    try:
        own = load_run_settings(run_dir).tasks
        trained = find_shared(tasks.test, load_tasks(own).train) if own != settings.tasks else []
    except ValueError as error:
        say(f"Whether {run_dir} was trained on these test problems is unknown: {error}")
        return
    if trained:
        raise ValueError(
            f"The policies of {run_dir} were trained on {len(trained)} of these {len(tasks.test)} test problems, such as "
            f"{trained[0][0].id}: leave the settings of tasks as that run has them, or give problems that it does not train on."
        )


def readable_tasks(settings: Config, run_dir: Path, policies: dict[str, Path], say: Callable[[str], None]) -> TaskSet:
    """The problems that the policies can read; for workflows alone those that the run's own policy can, so that rows stay comparable.

    Raises:
        ValueError: a policy cannot be loaded.
    """
    from rollout.policy_check import check_prompt
    from trainer.fitting import fitting

    tasks = load_tasks(settings.tasks)
    readers = list(policies.values()) or list(choose_policies(run_dir, [], own=True).values())[:1]
    prompts = [check_prompt(reader, settings.model, settings.rollout, settings.prompt_facts) for reader in readers]
    return fitting(tasks, prompts[0], settings.model, say) if prompts else tasks


if __name__ == "__main__":
    sys.exit(main())
