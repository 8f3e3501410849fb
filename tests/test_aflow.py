"""Workflows in AFlow's published form run unmodified, on the same budgets and with the same trace."""

from pathlib import Path

import pytest

from sandbox.records import Execution
from sandbox.settings import BudgetSettings, SandboxSettings
from tests.sandbox_parts import PROBLEM, ScriptedWorker, box
from workflow.aflow import is_aflow, parse_aflow, read_workflow_file
from workflow.aflow.operators import AFLOW_OPERATORS
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Refusal, Workflow

HEADER = """from typing import Literal
import metagpt.ext.aflow.scripts.optimized.HumanEval.workflows.template.operator as operator
import metagpt.ext.aflow.scripts.optimized.HumanEval.workflows.round_7.prompt as prompt_custom
from metagpt.provider.llm_provider_registry import create_llm_instance
from metagpt.utils.cost_manager import CostManager

DatasetType = Literal["HumanEval", "MBPP", "GSM8K", "MATH", "HotpotQA", "DROP"]

class Workflow:
    def __init__(
        self,
        name: str,
        llm_config,
        dataset: DatasetType,
    ) -> None:
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)
        self.llm.cost_manager = CostManager()
"""
NEWER = """import workspace.HumanEval.workflows.template.operator as operator
import workspace.HumanEval.workflows.round_2.prompt as prompt_custom
from scripts.async_llm import create_llm_instance
from scripts.evaluator import DatasetType

class Workflow:
    def __init__(self, name: str, llm_config, dataset: DatasetType) -> None:
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)
    async def __call__(self, problem: str):
        solution = await self.custom(input=problem, instruction=prompt_custom.SOLVE)
        return solution['response'], self.llm.get_usage_summary()["total_cost"]
"""
ROUND = """        self.custom_code_generate = operator.CustomCodeGenerate(self.llm)
        self.sc_ensemble = operator.ScEnsemble(self.llm)
        self.test = operator.Test(self.llm)

    async def __call__(self, problem: str, entry_point: str):
        solutions = []
        for _ in range(3):
            solution = await self.custom_code_generate(problem=problem, entry_point=entry_point, instruction=prompt_custom.PLAN)
            solutions.append(solution['response'])
        best = await self.sc_ensemble(solutions=solutions, problem=problem)
        checked = await self.test(problem=problem, solution=best['response'], entry_point=entry_point)
        if checked['result']:
            return checked['solution'], self.llm.cost_manager.total_cost
        return best['response'], self.llm.cost_manager.total_cost
"""
PROMPTS = 'PLAN = """Think first."""\nSOLVE = "Answer:"\n'


def aflow(source: str, prompts: str = PROMPTS) -> Workflow:
    workflow = parse_aflow(source, prompts)
    assert isinstance(workflow, Workflow), workflow
    return workflow


def calling(construct: str, call: str, answer: str) -> Workflow:
    body = f"        self.op = operator.{construct}(self.llm)\n    async def __call__(self, problem, entry_point):\n"
    return aflow(HEADER + body + f"        got = await self.op({call})\n        return {answer}, self.llm.cost_manager.total_cost\n")


async def executed(workflow: Workflow, worker: ScriptedWorker | None = None, problem: Problem = PROBLEM, **budget: int) -> Execution:
    settings = SandboxSettings(budget=BudgetSettings(**budget))  # type: ignore[arg-type]
    async with box("namespace", settings, worker) as sandbox:
        return await sandbox.execute(workflow, problem, 1)


async def test_a_published_round_runs_as_it_is():
    execution = await executed(aflow(HEADER + ROUND))
    assert (execution.outcome, execution.answer) == (Outcome.ANSWERED, "def f(xs):\n    return sum(xs)"), execution
    assert [call.operator for call in execution.trace] == ["CustomCodeGenerate"] * 3 + ["ScEnsemble", "Test"]
    assert execution.worker_calls == 3 and execution.test_runs == 1  # equal candidates need no comparison


async def test_the_newer_imports_and_one_parameter_run_too():
    execution = await executed(aflow(NEWER), ScriptedWorker("18"), Problem("g/0", "6 x 3?", "", (), ("18",), verifier="number"))
    assert execution.answer == "18" and execution.trace[0].operator == "Custom"


async def test_the_cost_that_a_workflow_sees_is_the_bill():
    body = "        self.custom = operator.Custom(self.llm)\n    async def __call__(self, problem, entry_point):\n"
    body += "        for _ in range(3): await self.custom(input=problem, instruction='')\n"
    body += "        return str(self.llm.cost_manager.total_cost)\n"
    execution = await executed(aflow(HEADER + body))
    assert float(execution.answer or 0) == pytest.approx(execution.cost_dollars) == pytest.approx(0.003)


PROGRAM = "```python\ndef solve():\n    return 6 * 7\n```"
REVIEWED = "{'review_result': False, 'feedback': 'no'}"
CALLS = {
    "Custom": ("Custom", "input=problem, instruction='x'", "got['response']", "hello", "hello"),
    "CustomCodeGenerate": ("CustomCodeGenerate", "problem, entry_point, ''", "got['response']", "```python\nx = 1\n```", "x = 1"),
    "ScEnsemble": ("ScEnsemble", "solutions=['a', 'b'], problem=problem", "got['response']", "B", "b"),
    "MdEnsemble": ("MdEnsemble", "solutions=['a', 'a'], problem=problem", "got['solution']", "A", "a"),
    "Test": ("Test", "problem=problem, solution='def f(xs): return 3', entry_point=entry_point", "str(got['result'])", "", "True"),
    "Review": (
        "Review",
        "problem=problem, solution='s'",
        "str(got['review_result']) + got['feedback']",
        "Verdict: rejected\nno",
        "Falseno",
    ),
    "Revise": ("Revise", "problem=problem, solution='s', feedback='f'", "got['solution']", "```python\ny = 2\n```", "y = 2"),
    "Format": ("Format", "problem=problem, solution='s'", "got['solution']", "<answer>7</answer>", "7"),
    "AnswerGenerate": ("AnswerGenerate", "input=problem", "got['answer']", "hm\n<answer>9</answer>", "9"),
    "Programmer": ("Programmer", "problem=problem, analysis='None'", "got['output']", PROGRAM, "42"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_each_operator_of_the_template_gives_its_published_result(name: str):
    construct, call, answer, reply, wanted = CALLS[name]
    execution = await executed(calling(construct, call, answer), ScriptedWorker(reply))
    assert (execution.outcome, execution.answer) == (Outcome.ANSWERED, wanted), execution.error


def test_every_operator_of_the_template_is_tried_above():
    assert set(CALLS) == set(AFLOW_OPERATORS)


async def test_a_test_that_fails_is_revised_up_to_three_times():
    execution = await executed(calling("Test", "problem, 'def f(xs): return 0', entry_point", "got['solution']"))
    assert execution.answer == "def f(xs):\n    return sum(xs)" and execution.worker_calls == 1 and execution.test_runs == 2


async def test_a_program_that_fails_is_written_anew_and_then_given_up():
    worker = ScriptedWorker("```python\ndef solve():\n    return 1 / 0\n```")
    execution = await executed(calling("Programmer", "problem", "repr(got['output'])"), worker)
    assert execution.answer == "''" and execution.worker_calls == 3


@pytest.mark.parametrize(
    "code",
    [
        "def solve():\n    return 42\n\nprint(solve())",
        "def solve():\n    print('Step 1: 6')\n    return 42\n\nif __name__ == '__main__':\n    print(f'Answer: {solve()}')",
        "def solve():\n    print(42)",
    ],
)
async def test_what_a_program_prints_itself_is_not_its_answer_unless_there_is_no_other(code: str):
    worker = ScriptedWorker(f"```python\n{code}\n```")
    execution = await executed(calling("Programmer", "problem", "got['output']"), worker)
    assert execution.answer == "42"


async def test_budgets_hold_as_in_our_own_language():
    loop = "        self.custom = operator.Custom(self.llm)\n    async def __call__(self, problem, entry_point):\n"
    loop += "        while True: await self.custom(input=problem, instruction='')\n"
    execution = await executed(aflow(HEADER + loop), calls=5)
    assert execution.outcome is Outcome.BUDGET_EXCEEDED and execution.worker_calls == 5


async def test_an_unknown_operator_is_the_workflows_fault():
    execution = await executed(calling("Nonsense", "problem", "got"))
    assert execution.outcome is Outcome.CRASHED and "Nonsense" in execution.error


def test_the_two_forms_are_told_apart(tmp_path: Path):
    (tmp_path / "graph.py").write_text(HEADER + ROUND)
    (tmp_path / "prompt.py").write_text(PROMPTS)
    read = read_workflow_file(tmp_path / "graph.py")
    assert isinstance(read, Workflow) and read.form == "aflow" and read.prompts == PROMPTS and read.units > 10
    ours = tmp_path / "ours.py"
    ours.write_text("class Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n")
    own = read_workflow_file(ours)
    assert isinstance(own, Workflow) and own.form == "ours" and not is_aflow(own.source)


def test_a_file_that_is_no_python_is_refused():
    assert isinstance(parse_aflow("class Workflow(:"), Refusal)
    assert isinstance(parse_aflow(HEADER + ROUND, "PLAN = ("), Refusal)


async def test_the_trace_shows_what_was_asked_and_which_calls_ran_side_by_side():
    body = "        self.custom = operator.Custom(self.llm)\n    async def __call__(self, problem, entry_point):\n        import asyncio\n"
    body += "        both = [self.custom(input=x, instruction='do ') for x in 'ab']\n        await asyncio.gather(*both)\n"
    body += "        return (await self.custom(input='c', instruction='then '))['response']\n"
    execution = await executed(aflow(HEADER + body), ScriptedWorker(latency_s=0.02))
    assert [call.prompt for call in execution.trace] == ["do a", "do b", "then c"]
    assert [call.parent for call in execution.trace][:2] == [-1, -1] and execution.trace[2].parent in (0, 1)
