"""How much there is to learn on the nano problems: every reference and teacher workflow, by level and examples.

The learning signal of the default run is the gap between the best fixed workflow and the best workflow for each (level,
with or without examples). This measures it with the real operators and the simulated worker in this process: no HTTP, no
sandbox (candidates are read, not executed), no policy.

    python -m benchmarks.nano_gap --problems 480 --runs 2
"""

import argparse
import ast
import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

from reward.settings import RewardSettings
from workflow.language.parse import parse_workflow
from workflow.nano.composition import apply, read_program
from workflow.nano.problems import nano_problem
from workflow.nano.simulated.book import Book
from workflow.nano.simulated.player import WORKER_MODEL, Player
from workflow.nano.simulated.teacher import PLANS
from workflow.operators import OPERATORS
from workflow.operators.context import TestReport
from workflow.problem import Problem
from workflow.program import Workflow
from workflow.reference import load_reference_workflows
from workflow.settings import SimulatedWorkerSettings
from workflow.verifiers.runner import ProgramResult
from workflow.worker.interface import Message

Cell = tuple[int, bool]
CELLS: tuple[Cell, ...] = tuple((level, examples) for examples in (True, False) for level in range(1, 7))

_TEST = re.compile(r"assert f\((.*)\) == (.*)")


@lru_cache(maxsize=100_000)
def _test_parts(test: str) -> tuple[Any, Any]:
    found = _TEST.fullmatch(test)
    assert found is not None, test
    return ast.literal_eval(found[1]), ast.literal_eval(found[2])


def holds(program: str, test: str) -> bool:
    """Whether a nano program passes a nano test; the program is read back into steps."""
    steps = read_program(program)
    xs, want = _test_parts(test)
    return steps is not None and apply(steps, xs) == want


@dataclass(slots=True)
class Meter:
    """The operators' context of one run, with the worker in this process."""

    problem: Problem
    player: Player
    seed: int
    calls: int = 0
    test_runs: int = 0

    async def ask(self, messages: Sequence[Message], *, temperature: float | None = None, max_tokens: int | None = None) -> str:
        self.calls += 1
        return self.player.answer(WORKER_MODEL, messages, (self.seed, self.calls))

    async def run_tests(self, solution: str, tests: Sequence[str]) -> TestReport:
        self.test_runs += 1
        failed = [test for test in tests if not holds(solution, test)]
        return TestReport(not failed, "\n".join(f"Failed: {test}" for test in failed))

    async def run_program(self, source: str) -> ProgramResult:
        raise NotImplementedError("the nano workflows run no programs")


class _Report:
    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def _method(meter: Meter, name: str) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        operator = OPERATORS[name]
        bound = operator.bind([meter.problem.query if arg is meter.problem else arg for arg in args], kwargs)
        value = await operator(meter)(**bound)
        return _Report(value) if isinstance(value, dict) else value

    return call


async def run_here(source: str, meter: Meter) -> str:
    """Runs one of our own workflows in this process."""
    names: dict[str, Any] = {"asyncio": asyncio}
    exec(source, names)
    workflow = names["Workflow"]()
    for name in OPERATORS:
        setattr(workflow, name, _method(meter, name))
    return await workflow(meter.problem)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one workflow."""

    reward: float
    passed: bool
    calls: float


def rate(workflow: Workflow, answer: str, meter: Meter, settings: RewardSettings) -> Sample:
    """Reward of one run under the default weights."""
    results = [holds(answer, test) for test in meter.problem.hidden_tests]
    calls = meter.calls + settings.test_run_calls * meter.test_runs
    size = (workflow.units - settings.complexity_free_units) / settings.complexity_scale_units
    complexity = min(max(size, 0.0), settings.complexity_max)
    weights = settings.weights
    reward = weights.performance * fmean(results) + weights.complexity * complexity + weights.calls * max(calls - 1, 0)
    return Sample(reward, all(results), calls)


def all_workflows() -> dict[str, Workflow]:
    """The reference workflows and the teacher's."""
    workflows = dict(load_reference_workflows())
    for plan in PLANS.values():
        workflow = parse_workflow(plan.source)
        assert isinstance(workflow, Workflow), workflow
        workflows[plan.words] = workflow
    return workflows


async def measure(problems: Sequence[Problem], runs: int, seed: int) -> dict[str, dict[Cell, list[Sample]]]:
    """Samples of every workflow on every problem, by cell."""
    player = Player(SimulatedWorkerSettings(seed=seed), Book())
    settings = RewardSettings()
    samples: dict[str, dict[Cell, list[Sample]]] = {}
    for name, workflow in all_workflows().items():
        cells: dict[Cell, list[Sample]] = defaultdict(list)
        for problem in problems:
            assert problem.level is not None
            for run in range(runs):
                meter = Meter(problem, player, run)
                answer = await run_here(workflow.source, meter)
                cells[problem.level, problem.has_examples].append(rate(workflow, answer, meter, settings))
        samples[name] = cells
    return samples


def _row(name: str, cells: dict[Cell, list[Sample]]) -> dict[str, Any]:
    everything = [sample for cell in CELLS for sample in cells[cell]]
    return {
        "name": name,
        "reward": round(fmean(sample.reward for sample in everything), 4),
        "pass_rate": round(fmean(sample.passed for sample in everything), 4),
        "calls": round(fmean(sample.calls for sample in everything), 3),
        "by_cell": [round(fmean(sample.reward for sample in cells[cell]), 3) for cell in CELLS],
    }


def summarise(samples: dict[str, dict[Cell, list[Sample]]]) -> dict[str, Any]:
    """Rows of all workflows, the best fixed one, and the best for each cell."""
    rows = sorted((_row(name, cells) for name, cells in samples.items()), key=lambda row: -row["reward"])
    best = {cell: max(samples, key=lambda name: fmean(sample.reward for sample in samples[name][cell])) for cell in CELLS}
    per_level = _row("best reference per level", {cell: samples[best[cell]][cell] for cell in CELLS})
    gap = round(per_level["reward"] - rows[0]["reward"], 4)
    return {"rows": rows, "per_level": per_level, "gap": gap, "best_by_cell": [best[cell] for cell in CELLS]}


def main() -> None:
    """Prints a table, then the same as one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nano_gap", description="The gap that a nano policy can learn.")
    parser.add_argument("--problems", type=int, default=480)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    problems = [nano_problem(options.seed, "validation", index) for index in range(options.problems)]
    result = summarise(asyncio.run(measure(problems, options.runs, options.seed)))
    heads = " ".join(f"{level}{'+' if examples else '-'}".rjust(6) for level, examples in CELLS)
    print(f"{'workflow (level, + with or - without examples)':<58} reward   pass  calls {heads}")
    for row in [*result["rows"], result["per_level"]]:
        by_cell = " ".join(f"{value:6.3f}" for value in row["by_cell"])
        print(f"{row['name']:<58} {row['reward']:6.3f} {row['pass_rate']:6.3f} {row['calls']:6.2f} {by_cell}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
