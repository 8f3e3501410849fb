"""The final table: policies, reference workflows, the best fixed one and the oracle on the same held-out problems."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from trainer.evaluation.rows import Row, minus, result_row
from trainer.evaluation.trials import Trials, best_fixed, evaluate_policy, evaluate_workflow, oracle
from trainer.run.terminal import Terminal, table
from trainer.settings import RunSettings
from workflow.program import Workflow

if TYPE_CHECKING:
    from trainer.system import System

TABLE_WIDTH = 150
"""Columns of a terminal that holds the whole table."""
LEAST_WIDTH = 80
"""Columns from which figures stay in one line."""


async def final_table(
    system: "System", settings: RunSettings, policies: Mapping[str, Path], workflows: Mapping[str, Workflow], *, say: Callable[[str], None]
) -> list[Row]:
    """Rows of ``results.json`` in the order of the table: policies, fixed workflows, best fixed, oracle.

    Args:
        policies: Hugging Face folders by row name. workflows: fixed workflows by row name; with fewer than two
            of them there is no best fixed workflow and no oracle.

    All rows meet the same worker seeds, so differences between rows are not differences in luck. The best fixed
    workflow and the oracle's table are chosen on validation problems and reported on test problems.
    """
    evaluation = settings.trainer.evaluation
    rows: list[Row] = []
    of_policies: dict[str, Trials] = {}
    for name, folder in policies.items():
        for label, trials in (await policy_trials(system, settings, folder)).items():
            of_policies[f"{name}{label}"] = trials
            rows.append(result_row(f"{name}{label}", "policy", trials, evaluation))
            say(progress_line(f"{name}{label}", trials))
    validation, test = await workflow_trials(system, settings, workflows, say)
    rows += [result_row(name, "workflow", trials, evaluation) for name, trials in test.items()]
    chosen_on = {name: trials.known for name, trials in validation.items() if trials.known}
    if len(test) < 2 or not chosen_on:
        return rows
    best = best_fixed(chosen_on)
    for row in rows:
        if row["name"] in of_policies:
            row["minus_best_fixed"] = minus(of_policies[row["name"]].known, test[best].known, evaluation.bootstrap)
    rows.append(result_row("best fixed workflow", "workflow", test[best], evaluation) | {"of": best})
    choice, trials = oracle(chosen_on, {name: trials.known for name, trials in test.items()})
    named = {
        f"level {level}, {'with' if examples else 'without'} examples": name for (level, examples), name in sorted(choice.items(), key=repr)
    }
    rows.append(result_row("oracle", "oracle", Trials(tuple(trials)), evaluation) | {"of": named})
    return rows


def progress_line(name: str, trials: Trials) -> str:
    """What is said of a row as soon as it is known."""
    if not trials.known:
        return f"  {name}: lost to infrastructure failures ({', '.join(trials.lost[:1]) or 'no problems'})"
    reward, passed, calls = (fmean(getattr(trial, key) for trial in trials.known) for key in ("reward", "pass_rate", "calls"))
    lost = f"; {len(trials.lost)} problems lost ({trials.lost[0]})" if trials.lost else ""
    return f"  {name}: reward {reward:.3f}, pass rate {passed:.3f}, calls {calls:.2f}{lost}"


async def policy_trials(system: "System", settings: RunSettings, folder: Path) -> dict[str, Trials]:
    """Greedy and (where asked for) sampled trials of the policy in ``folder`` on the test problems, keyed by label suffix."""
    evaluation = settings.trainer.evaluation
    fleet, collector = await system.fleet(), await system.collector()
    await fleet.publish(fleet.version + 1, await asyncio.to_thread(read_weights, folder))
    test = system.tasks.test
    trials = {"": await evaluate_policy(collector, test, tag="test", runs=evaluation.runs)}
    if evaluation.sampled_completions:
        trials[" (sampled)"] = await evaluate_policy(
            collector,
            test,
            tag="test",
            runs=evaluation.runs,
            completions=evaluation.sampled_completions,
            temperature=settings.rollout.temperature,
        )
    return trials


def read_weights(folder: Path) -> list[tuple[str, torch.Tensor]]:
    """All tensors of a Hugging Face folder, in the form that engines take."""
    return [item for file in sorted(folder.glob("*.safetensors")) for item in load_file(file).items()]


async def workflow_trials(
    system: "System", settings: RunSettings, workflows: Mapping[str, Workflow], say: Callable[[str], None]
) -> tuple[dict[str, Trials], dict[str, Trials]]:
    """Every fixed workflow on validation and on test problems."""
    sandbox = await system.sandbox()
    evaluation, reward, seed = settings.trainer.evaluation, settings.reward, settings.trainer.seed
    validation: dict[str, Trials] = {}
    test: dict[str, Trials] = {}
    for name, workflow in workflows.items():
        validation[name], test[name] = await asyncio.gather(
            evaluate_workflow(workflow, sandbox, system.tasks.validation, reward, tag="choose", runs=evaluation.choice_runs, seed=seed),
            evaluate_workflow(workflow, sandbox, system.tasks.test, reward, tag="test", runs=evaluation.runs, seed=seed),
        )
        say(progress_line(name, test[name]))
    return validation, test


def print_table(rows: Sequence[Row], terminal: Terminal) -> None:
    """The table on the terminal: means with 95 % intervals, and the reward of each level; two tables where one would be too wide."""
    levels = sorted({level for row in rows for level in _levels(row)}, key=int)
    means = ["reward", "pass rate", "calls", "$ / 1000"]
    names = [f"{row['name']} ({row['of']})" if isinstance(row.get("of"), str) else str(row["name"]) for row in rows]
    cells = [_cells(row, levels) for row in rows]
    columns = [*means, *(f"L{level}" for level in levels)]
    parts = [slice(0, None)] if terminal.width >= TABLE_WIDTH else [slice(0, 3), slice(3, None)]
    for part, title in zip(parts, ("Held-out problems", "Their price, and their reward by level"), strict=False):
        if columns[part]:
            lines = [[name, *row[part]] for name, row in zip(names, cells, strict=True)]
            terminal.print(table(["", *columns[part]], lines, title=title, whole=columns if terminal.width >= LEAST_WIDTH else ()))
    for row in rows:
        if difference := row.get("minus_best_fixed"):
            shown = ", ".join(f"{name.replace('_', ' ')} {_difference(difference, name)}" for name in ("reward", "pass_rate"))
            terminal.print(f"{row['name']} minus best fixed workflow, problem by problem: {shown}", soft_wrap=True)
        if row.get("lost"):
            lost = f"{row['lost']} of {row['lost'] + row['problems']} problems lost to infrastructure failures"
            terminal.print(f"{row['name']}: {lost}, most of them: {row['why']}", soft_wrap=True)


def _difference(row: Row, name: str) -> str:
    low, high = row[f"{name}_ci"]
    return f"{row[name]:+.3f} [{low:+.3f}, {high:+.3f}]"


def _cells(row: Row, levels: Sequence[str]) -> list[str]:
    if not row.get("problems"):
        return ["lost, see below", "", "", "", *("" for _ in levels)]
    means = [_with_interval(row, "reward"), _with_interval(row, "pass_rate"), f"{row['calls']:.2f}", f"{row['cost'] * 1000:.3f}"]
    return means + [f"{_levels(row)[level]['reward']:.2f}" if level in _levels(row) else "" for level in levels]


def _levels(row: Row) -> dict[str, dict[str, float]]:
    return row["by_level"]


def _with_interval(row: Row, key: str) -> str:
    low, high = row[f"{key}_ci"]
    return f"{row[key]:.3f} [{low:.3f}, {high:.3f}]"
