"""Takes operator, task set and verifier of ``tests/plugin`` from settings to audit and simulated worker; prints JSON."""

import asyncio
import json
from dataclasses import replace
from typing import Any

from launch.compose import compose_settings
from sandbox.audit import audit
from sandbox.sandbox import Sandbox
from workflow.language.parse import parse_workflow
from workflow.nano.simulated.book import Book
from workflow.nano.simulated.player import WORKER_MODEL, Player
from workflow.operators import OPERATORS, catalogue
from workflow.program import Workflow
from workflow.tasks import load_tasks
from workflow.verifiers import find_verifier
from workflow.worker.interface import FixedWorker, Message

MODULES = [f"flowreasoner_extras.{name}" for name in ("operator", "task_set", "verifier")]
SOURCE = """class Workflow:
    async def __call__(self, problem):
        first = await self.answer(problem)
        return await self.vote(problem, [first, first])
"""


async def main() -> dict[str, Any]:
    """What became of each part."""
    config = compose_settings(["tasks.name=capitals", f"trainer.imports=[{','.join(MODULES)}]", "cluster.device=cpu"])
    tasks = load_tasks(config.tasks)
    problem, other = tasks.train[:2]
    workflow = parse_workflow(f"```python\n{SOURCE}```")
    assert isinstance(workflow, Workflow), workflow
    verifier, vote = find_verifier(problem.verifier), OPERATORS["vote"]
    async with Sandbox(config.sandbox, FixedWorker(f"{problem.reference}\n")) as sandbox:
        right, wrong = await sandbox.run(workflow, problem, 0), await sandbox.run(workflow, other, 0)
        audits = [
            await audit(sandbox, one, mutants=2)
            for one in (problem, replace(problem, id="echo", query="paris", hidden_tests=("Paris",), reference="Paris"))
        ]
    text = vote.prompt.format(problem=problem.query, answers="Lima", form=verifier.form)
    asked: list[Message] = [{"role": "system", "content": vote.system}, {"role": "user", "content": text}]
    played = {Player(config.simulated, Book(tasks.train)).answer(WORKER_MODEL, asked, sample) for sample in range(40)}
    return {
        "sizes": [len(tasks.train), len(tasks.validation), len(tasks.test)],
        "catalogue": "await self.vote(problem: str, answers: list[str]) -> str" in catalogue(),
        "operators": workflow.operators,
        "right": [right.outcome, right.verdict.trust if right.verdict else "", [call.operator for call in right.execution.trace]],
        "wrong": [wrong.outcome, wrong.verdict.failures if wrong.verdict else ""],
        "faults": [audit.faults for audit in audits],
        "told": verifier.form in right.execution.trace[-1].prompt,
        "played": problem.reference in played and len(played) > 1,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
