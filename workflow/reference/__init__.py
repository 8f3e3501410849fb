"""Reference workflows: the baselines of the paper's table, written in the workflow language, one file each.

The files are read as text and go through the same parser as the policy's completions; nothing here imports them.
"""

from functools import cache
from pathlib import Path

from workflow.language.parse import parse_source
from workflow.program import Refusal, Workflow

FOLDER = Path(__file__).resolve().parent
SELF_CONSISTENCY = """import asyncio


class Workflow:
    async def __call__(self, problem):
        answers = await asyncio.gather(*[self.generate(problem) for _ in range({samples})])
        answer = await self.ensemble(problem, answers)
        return answer"""


def load_reference_workflows() -> dict[str, Workflow]:
    """Every reference workflow by the name of its file, the single call first.

    Raises:
        ValueError: a file is refused by the checks; the message names the file, the construct and its line.
    """
    return dict(_load(FOLDER))


def self_consistency(samples: int) -> Workflow:
    """Self-consistency over any number of drafts, as ``self_consistency_3.py`` has it."""
    workflow = parse_source(SELF_CONSISTENCY.format(samples=samples))
    assert isinstance(workflow, Workflow), workflow.message
    return workflow


@cache
def _load(folder: Path) -> dict[str, Workflow]:
    loaded: dict[str, Workflow] = {}
    for path in sorted(folder.glob("*.py"), key=lambda path: (path.stem != "single_call", path.stem)):
        if path.stem == "__init__":
            continue
        workflow = parse_source(path.read_text(encoding="utf-8").strip("\n"))
        if isinstance(workflow, Refusal):
            raise ValueError(f"{path} is no runnable workflow ({workflow.message}): correct the file or remove it.")
        loaded[path.stem] = workflow
    return loaded
