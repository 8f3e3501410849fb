"""Workflows in the form that AFlow and FlowReasoner publish, run unmodified (not ScoreFlow's and MaAS', which are built otherwise).

    class Workflow:
        def __init__(self, name, llm_config, dataset):
            self.llm = create_llm_instance(llm_config)
            self.custom = operator.Custom(self.llm)
        async def __call__(self, problem, entry_point):
            ...
            return solution["response"], self.llm.cost_manager.total_cost

The box gives it the modules that such files import (``operator``, ``prompt``, ``create_llm_instance``, ``CostManager``); the
operators execute on the trusted side, with the same budgets and the same trace as our own.
"""

import ast
from pathlib import Path

from workflow.language.parse import MAX_SOURCE_BYTES, parse_tree, parse_workflow
from workflow.language.shape import fingerprint, measure
from workflow.outcome import Outcome
from workflow.program import Refusal, Workflow

PROMPT_FILE = "prompt.py"


def is_aflow(source: str) -> bool:
    """True for a source whose ``class Workflow`` is constructed with name, llm_config and dataset."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Workflow"]
    inits = [node for kind in classes for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    return any(len(init.args.args) > 1 for init in inits)


def parse_aflow(source: str, prompts: str = "") -> Workflow | Refusal:
    """A workflow from the texts of ``graph.py`` and of the ``prompt.py`` beside it.

    No static checks: the box holds by itself, and these files import and name what our language forbids.
    """
    for text in (source, prompts):
        tree = parse_tree(text)
        if isinstance(tree, Refusal):
            return tree
        if len(text.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
            return Refusal(Outcome.FORBIDDEN, f"The source has more than {MAX_SOURCE_BYTES} bytes.")
    tree = ast.parse(source)
    return Workflow(source, fingerprint(ast.parse(source + "\n" + prompts)), *measure(tree), form="aflow", prompts=prompts)


def read_workflow_file(path: Path, workers: tuple[str, ...] = ()) -> Workflow | Refusal:
    """A file with a workflow in our language or in AFlow's form; the latter takes its prompts from ``prompt.py`` beside it.

    Args:
        workers: names of the run's workers; empty where it has one, without a name.
    """
    source = path.read_text(encoding="utf-8")
    if not is_aflow(source):
        return parse_workflow(source, workers)
    beside = path.parent / PROMPT_FILE
    return parse_aflow(source, beside.read_text(encoding="utf-8") if beside.is_file() else "")
