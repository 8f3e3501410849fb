"""The final table: policies, fixed workflows, what choosing among these reaches, and more samples for the same money."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from rollout.records import Group
from trainer.evaluation.choice import Chosen, Race, chosen_trials, hindsight, race
from trainer.evaluation.equal_cost import self_consistency_at
from trainer.evaluation.rows import BEST_FIXED, BEST_PER_LEVEL, EQUAL_COST, HINDSIGHT, SAMPLED, Row, compare_rows, result_row
from trainer.evaluation.trials import Cell, Trial, Trials, cell_of, evaluate_policy, evaluate_workflow
from trainer.settings import RunSettings
from workflow.problem import Problem
from workflow.program import Workflow

if TYPE_CHECKING:
    from trainer.system import System

Keep = Callable[[str, Sequence[Group]], None]
"""Keeps the held-out episodes of a row."""


class Table:
    """The rows so far, and the trials behind each."""

    def __init__(self, settings: RunSettings, say: Callable[[str], None]) -> None:
        self.settings = settings.trainer.evaluation
        self.rows: list[Row] = []
        self.trials: dict[str, Trials] = {}
        self._say = say

    def add(self, name: str, kind: str, trials: Trials, **more: Any) -> None:
        """A row, which is said at once."""
        self.trials[name] = trials
        self.rows.append(result_row(name, kind, trials, self.settings) | more)
        self._say(progress_line(name, trials))


async def final_table(
    system: "System",
    settings: RunSettings,
    policies: Mapping[str, Path],
    workflows: Mapping[str, Workflow],
    *,
    say: Callable[[str], None],
    keep: Keep = lambda name, groups: None,
) -> list[Row]:
    """Rows of ``results.json`` in the order of the table: policies, fixed workflows, choices among them, self-consistency at equal cost.

    Args:
        policies: Hugging Face folders by row name. workflows: fixed workflows by row name; with fewer than two
            of them there is nothing to choose.

    All rows meet the same worker seeds, so differences between rows are not differences in luck. The best fixed
    workflow and the best one per level are chosen on validation problems and reported on test problems; the hindsight bound is not.
    """
    evaluation, test = settings.trainer.evaluation, system.tasks.test
    table = Table(settings, say)
    for name, folder in policies.items():
        await add_policy(table, system, settings, name, folder, keep)

    async def run(workflow: Workflow, problems: Sequence[Problem], tag: str = "test", runs: int = evaluation.runs) -> Trials:
        sandbox, seed = await system.sandbox(), settings.trainer.seed
        return await evaluate_workflow(workflow, sandbox, problems, settings.reward, tag=tag, runs=runs, seed=seed)

    for name, workflow in workflows.items():
        table.add(name, "workflow", await run(workflow, test))
    if len(workflows) > 1:

        async def choose(name: str, problems: Sequence[Problem]) -> Trials:
            return await run(workflows[name], problems, "choose", evaluation.choice_runs)

        await add_choices(table, list(workflows), choose, system.tasks.validation, test)
    spender = list(policies)[-1] if policies else BEST_FIXED
    if evaluation.equal_cost and spender in table.trials and (target := table.trials[spender].known):
        samples, unit, trials = await self_consistency_at(target, run, test, max_calls=settings.sandbox.budget.calls)
        name = "cost" if unit == "dollars" else unit
        spent, aim = (fmean([getattr(one, name) for one in of] or [0.0]) for of in (trials.known, target))
        about = f"{samples} sample{'s' if samples > 1 else ''}, for the {unit} of {spender} ({spent:.3g} against {aim:.3g})"
        table.add(EQUAL_COST, "workflow", trials, of=about)
    compare_rows(table.rows, table.trials, evaluation)
    return table.rows


async def add_policy(table: Table, system: "System", settings: RunSettings, name: str, folder: Path, keep: Keep) -> None:
    """Greedy and (where asked for) sampled trials of the policy in ``folder`` on the test problems."""
    evaluation, test = settings.trainer.evaluation, system.tasks.test
    fleet, collector = await system.fleet(), await system.collector()
    await fleet.publish(fleet.version + 1, await asyncio.to_thread(read_weights, folder))
    temperature = settings.rollout.temperature if evaluation.temperature is None else evaluation.temperature
    asked = {name: (1, 0.0), f"{name}{SAMPLED}": (evaluation.sampled_completions, temperature)}
    for row, (completions, warmth) in asked.items():
        if completions:
            trials = await evaluate_policy(
                collector,
                test,
                tag="test",
                runs=evaluation.runs,
                completions=completions,
                temperature=warmth,
                keep=lambda groups, row=row: keep(row, groups),
            )
            table.add(row, "policy", trials, temperature=warmth)


async def add_choices(
    table: Table,
    names: Sequence[str],
    evaluate: Callable[[str, Sequence[Problem]], Any],
    validation: Sequence[Problem],
    test: Sequence[Problem],
) -> None:
    """The best fixed workflow and the best one per level, chosen by a race on the validation problems, and the hindsight bound."""
    evaluation = table.settings
    max_runs = evaluation.choice_max_runs or len(names) * len(test) * evaluation.runs
    cells = {problem.id: cell_of(problem) for problem in validation}
    going = await race(names, evaluate, validation, cells, max_runs // evaluation.choice_runs)
    of_test = {name: table.trials[name] for name in names}
    if not any(going.rewards.values()):
        return
    kinds: dict[str, Iterable[Cell | None]] = {BEST_FIXED: [None], BEST_PER_LEVEL: dict.fromkeys(map(cell_of, test))}
    for row, asked in kinds.items():
        chosen = going.best(asked, evaluation.bootstrap)
        best = chosen.names.get(None)
        trials = chosen_trials(chosen, of_test) if best is None else of_test[best]
        by_cell = {name_cell(cell): name for cell, name in sorted(chosen.names.items(), key=repr) if cell is not None}
        kind, of = ("workflow", best) if best else ("choice", by_cell)
        table.add(row, kind, trials, of=of, choice=_quality(chosen, trials.known, going, evaluation.choice_runs))
    table.add(HINDSIGHT, "bound", hindsight(of_test))


def _quality(chosen: Chosen, test: Sequence[Trial], going: Race, runs: int) -> Row:
    """How far a choice can be trusted. ``optimism``: what it reached where it was chosen minus what it reached on the test problems."""
    out: Row = {"problems": chosen.problems, "runs": runs * sum(map(len, going.rewards.values())), "noise": round(chosen.noise, 4)}
    return out | ({"optimism": round(chosen.reward - fmean(trial.reward for trial in test), 4)} if test else {})


def name_cell(cell: Cell) -> str:
    """A cell in words."""
    level, examples = cell
    return f"{f'level {level}' if isinstance(level, int) else level or 'all'}, {'with' if examples else 'without'} examples"


def progress_line(name: str, trials: Trials) -> str:
    """What is said of a row as soon as it is known."""
    if not trials.known:
        return f"  {name}: lost to infrastructure failures ({', '.join(trials.lost[:1]) or 'no problems'})"
    reward, passed, calls = (fmean(getattr(trial, key) for trial in trials.known) for key in ("reward", "pass_rate", "calls"))
    lost = f"; {len(trials.lost)} problems lost ({trials.lost[0]})" if trials.lost else ""
    return f"  {name}: reward {reward:.3f}, pass rate {passed:.3f}, calls {calls:.2f}{lost}"


def read_weights(folder: Path) -> list[tuple[str, torch.Tensor]]:
    """All tensors of a Hugging Face folder, in the form that engines take."""
    return [item for file in sorted(folder.glob("*.safetensors")) for item in load_file(file).items()]
