"""``python -m launch.evaluate RUN_DIR``: any policy or fixed workflow on the held-out problems of a run.

The rows of the table meet the same problems and the same worker seeds as those of the run's own final table. In place of a run folder it
takes groups and values as ``launch.train`` does (``experiment=...``); of several run folders it compares the final tables.
"""

import argparse
import asyncio
import functools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conf.schema import Config
from launch.candidates import choose_policies, choose_workflows, is_run, load_settings
from launch.shell import load_run_settings, one_sentence_errors
from trainer.evaluation.export import MARKER
from trainer.run.at_url import fetch
from trainer.run.terminal import Terminal, quiet_libraries
from workflow.program import Workflow
from workflow.tasks import TaskSet, load_tasks
from workflow.tasks.overlap import find_shared

if TYPE_CHECKING:
    from rollout.records import Group
    from trainer.evaluation.rows import Row


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m launch.evaluate", description="Evaluate policies and workflows on held-out problems.")
    out.add_argument(
        "given",
        nargs="*",
        metavar="RUN_DIR | name=value",
        help="run folder or URL whose settings and policies are used (several: their final tables are compared), and Hydra overrides, for "
        "example tasks.test_size=600 trainer.evaluation.runs=4; without a run folder groups too, such as experiment=own tasks=jsonl",
    )
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
    out.add_argument(
        "--worker",
        action="append",
        default=[],
        metavar="NAME",
        help="evaluate with this worker: a file of conf/worker, or values such as 'worker.model=M worker.base_url=URL'; repeatable, which "
        "gives a matrix of rows by workers",
    )
    out.add_argument("--out", type=Path, help="write the rows as JSON to this file, and the policies' episodes beside it")
    return out


@one_sentence_errors
def main() -> int:
    """Entry point."""
    options = parser().parse_intermixed_args()
    runs, overrides = [text for text in options.given if is_run(text)], [text for text in options.given if not is_run(text)]
    terminal = Terminal()
    if len(runs) > 1:
        if options.policy or options.workflow or options.worker:
            raise ValueError("Of several runs the final tables are compared: give one run to evaluate policies, workflows and workers.")
        rows = compare_runs({run: fetch(run) for run in dict.fromkeys(runs)}, overrides, terminal)
    else:
        rows = evaluate_one(fetch(runs[0]) if runs else None, overrides, options, terminal)
    if options.out:
        options.out.write_text(json.dumps({"rows": rows}, indent=1))
    from trainer.evaluation.rows import refuse_if_all_lost

    refuse_if_all_lost(rows)
    return 0


def compare_runs(runs: dict[str, Path], overrides: list[str], terminal: Terminal) -> "list[Row]":
    """Prints the final tables of several runs as one and returns its rows."""
    from trainer.evaluation.compare import read_results, rows_over_runs
    from trainer.evaluation.show import print_table

    evaluation = load_run_settings(next(iter(runs.values())), overrides).trainer.evaluation
    rows = rows_over_runs({name: read_results(run_dir) for name, run_dir in runs.items()}, evaluation)
    print_table(rows, terminal)
    return rows


def evaluate_one(run_dir: Path | None, overrides: list[str], options: argparse.Namespace, terminal: Terminal) -> "list[Row]":
    """Evaluates policies and workflows with each of the workers and returns the rows of all tables."""
    from trainer.evaluation.rows import check_against
    from trainer.evaluation.show import print_workers

    if run_dir is None and not overrides:
        raise ValueError("Give a run folder, or groups and values as for launch.train, like experiment=own tasks.path=FILE --workflow all.")
    by_worker = {worker: load_settings(run_dir, overrides, worker) for worker in options.worker or [""]}
    workflows = choose_workflows(options.workflow)
    policies = choose_policies(run_dir, options.policy, own=not options.workflow)
    if not policies and not workflows:
        raise ValueError(f"{run_dir or 'No run folder'} has no policy yet: give --policy FOLDER or --workflow NAME.")
    for settings in by_worker.values():
        check_against(policies, workflows, settings.trainer.evaluation)
    keep = keep_episodes(options.out) if options.out else lambda worker, name, groups: None
    quiet_libraries()
    rows: list[Row] = []
    for worker, settings in by_worker.items():
        found = asyncio.run(run_evaluation(settings, run_dir, policies, workflows, terminal, functools.partial(keep, worker)))
        rows += [row | {"worker": worker} for row in found] if worker else found
    if len(by_worker) > 1:
        print_workers(rows, terminal)
    return rows


def keep_episodes(out: Path) -> "Callable[[str, str, Sequence[Group]], None]":
    """Writes the policies' episodes to FILE.episodes.jsonl, worker by worker and row by row of the table."""
    from trainer.run.episodes import held_out_rows

    file = out.with_suffix(".episodes.jsonl")
    file.write_text("")

    def keep(worker: str, name: str, groups: "Sequence[Group]") -> None:
        rows = [({"worker": worker} if worker else {}) | row for row in held_out_rows(name, groups, 300)]
        with file.open("a", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    return keep


async def run_evaluation(
    settings: Config,
    run_dir: Path | None,
    policies: dict[str, Path],
    workflows: dict[str, Workflow],
    terminal: Terminal,
    keep: "Callable[[str, Sequence[Group]], None]" = lambda name, groups: None,
) -> "list[Row]":
    """Prints the table and returns its rows."""

    def say(text: str) -> None:
        terminal.print(text, soft_wrap=True)

    tasks = readable_tasks(settings, run_dir, policies, say)
    for run in dict.fromkeys(filter(None, map(run_of, policies.values()))):
        refuse_trained(tasks, settings, run, say)
    say("Starting engine and sandboxes ..." if policies else "Starting sandboxes ...")
    from trainer.evaluation.show import print_table
    from trainer.evaluation.table import final_table
    from trainer.system import System

    first = next(iter(policies.values()), None)
    logs = run_dir or Path(tempfile.mkdtemp(prefix="flowreasoner-evaluation-"))
    async with System(settings, policy=first, learner_start=None, log_dir=logs, tasks=tasks, say=say) as system:
        rows = await final_table(system, settings, policies, workflows, say=say, keep=keep)
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


def readable_tasks(settings: Config, run_dir: Path | None, policies: dict[str, Path], say: Callable[[str], None]) -> TaskSet:
    """The problems that the policies can read; for workflows alone those that the run's own policy can, so that rows stay comparable.

    Raises:
        ValueError: a policy cannot be loaded.
    """
    from rollout.policy_check import check_prompt
    from trainer.fitting import fitting

    tasks = load_tasks(settings.tasks)
    readers = list(policies.values()) or list(choose_policies(run_dir, [], own=True).values())[:1]
    prompts = [check_prompt(reader, settings.model, settings.rollout) for reader in readers]
    return fitting(tasks, prompts[0], settings.model, say) if prompts else tasks


if __name__ == "__main__":
    sys.exit(main())
