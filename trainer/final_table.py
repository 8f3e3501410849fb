"""The final table: policies, reference workflows, the best fixed one and the oracle on the same held-out problems."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from trainer.evaluation import Trial, best_fixed, evaluate_policy, evaluate_workflow, oracle, result_row
from trainer.settings import RunSettings
from trainer.terminal import Terminal, table
from workflow.program import Workflow

if TYPE_CHECKING:
    from trainer.system import System

Row = dict[str, object]
TABLE_WIDTH = 150
"""Columns of a terminal that holds the whole table."""


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
    for name, folder in policies.items():
        for label, trials in (await policy_trials(system, settings, folder)).items():
            rows.append(result_row(f"{name}{label}", "policy", trials, evaluation))
            say(
                f"  {rows[-1]['name']}: reward {rows[-1].get('reward')}, pass rate {rows[-1].get('pass_rate')}, "
                f"calls {rows[-1].get('calls')}"
            )
    validation, test = await workflow_trials(system, settings, workflows, say)
    rows += [result_row(name, "workflow", trials, evaluation) for name, trials in test.items()]
    if len(test) < 2:
        return rows
    best = best_fixed(validation)
    rows.append(result_row("best fixed workflow", "workflow", test[best], evaluation) | {"of": best})
    choice, trials = oracle(validation, test)
    named = {
        f"level {level}, {'with' if examples else 'without'} examples": name for (level, examples), name in sorted(choice.items(), key=repr)
    }
    rows.append(result_row("oracle", "oracle", trials, evaluation) | {"of": named})
    return rows


async def policy_trials(system: "System", settings: RunSettings, folder: Path) -> dict[str, list[Trial]]:
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
) -> tuple[dict[str, list[Trial]], dict[str, list[Trial]]]:
    """Every fixed workflow on validation and on test problems."""
    sandbox = await system.sandbox()
    evaluation, reward, seed = settings.trainer.evaluation, settings.reward, settings.trainer.seed
    validation: dict[str, list[Trial]] = {}
    test: dict[str, list[Trial]] = {}
    for name, workflow in workflows.items():
        validation[name], test[name] = await asyncio.gather(
            evaluate_workflow(workflow, sandbox, system.tasks.validation, reward, tag="choose", runs=1, seed=seed),
            evaluate_workflow(workflow, sandbox, system.tasks.test, reward, tag="test", runs=evaluation.runs, seed=seed),
        )
        rewards = [trial.reward for trial in test[name]]
        say(f"  {name}: reward {sum(rewards) / max(1, len(rewards)):.3f}")
    return validation, test


def print_table(rows: Sequence[Row], terminal: Terminal) -> None:
    """The table on the terminal: means with 95 % intervals, and the reward of each level; two tables where one would be too wide."""
    levels = sorted({level for row in rows for level in _levels(row)}, key=int)
    means = ["reward", "pass rate", "calls", "$ / 1000"]
    names = [f"{row['name']} ({row['of']})" if isinstance(row.get("of"), str) else str(row["name"]) for row in rows]
    cells = [_cells(row, levels) for row in rows]
    columns = [*means, *(f"L{level}" for level in levels)]
    parts = [slice(0, None)] if terminal.width >= TABLE_WIDTH else [slice(0, len(means)), slice(len(means), None)]
    for part, title in zip(parts, ("Held-out problems", "Their reward by level"), strict=False):
        if columns[part]:
            lines = [[name, *row[part]] for name, row in zip(names, cells, strict=True)]
            terminal.print(table(["", *columns[part]], lines, title=title))


def _cells(row: Row, levels: Sequence[str]) -> list[str]:
    if not row.get("problems"):
        return ["lost to infrastructure failures", "", "", "", *("" for _ in levels)]
    means = [_with_interval(row, "reward"), _with_interval(row, "pass_rate"), f"{row['calls']:.2f}", f"{_number(row, 'cost') * 1000:.3f}"]
    return means + [f"{_levels(row)[level]['reward']:.2f}" if level in _levels(row) else "" for level in levels]


def _levels(row: Row) -> dict[str, dict[str, float]]:
    by_level = row["by_level"]
    assert isinstance(by_level, dict)
    return by_level


def _number(row: Row, key: str) -> float:
    value = row[key]
    assert isinstance(value, int | float)
    return float(value)


def _with_interval(row: Row, key: str) -> str:
    bounds = row[f"{key}_ci"]
    assert isinstance(bounds, list)
    return f"{_number(row, key):.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]"
