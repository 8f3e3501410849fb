"""Static checks of a workflow's AST: what the language allows. Feedback, not security: see ``workflow.language.parse``.

Each check yields faults. All of them are told, in the order of the source, each with its construct and its line, so that one more
round can put all of them right.
"""

import ast
import builtins
from collections.abc import Callable, Collection, Iterator

from workflow.code import bound_names
from workflow.language.awaits import find_unawaited
from workflow.language.reach import Fault, find_reached, is_dunder
from workflow.language.workers import find_unknown_workers
from workflow.operators import OPERATORS
from workflow.outcome import Outcome
from workflow.program import Refusal

ALLOWED_MODULES = frozenset(
    {
        *("ast", "asyncio", "collections", "copy", "functools", "itertools", "json", "math", "random", "re", "statistics", "string"),
        *("textwrap", "time", "typing"),
    }
)
"""What a workflow may import."""

PREBOUND = frozenset({"asyncio", "OperatorError", "BudgetExceeded"})
"""Names that are there without an import: what ``await self.generate(problem)`` may raise can be caught by name."""

FORBIDDEN_NAMES = frozenset(
    {
        *("exec", "eval", "compile", "open", "input", "breakpoint", "exit", "quit", "help", "copyright", "credits", "license"),
        *("getattr", "setattr", "delattr", "globals", "locals", "vars", "dir", "memoryview"),
    }
)
"""Builtins that a workflow has no use for; a local variable of that name is fine."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


MAX_FAULTS = 8
"""How many faults a refusal tells."""


def check_tree(tree: ast.Module, workers: Collection[str] = ()) -> Refusal | None:
    """The faults of a parsed workflow as a Refusal; None where there are none. ``workers``: as of ``parse_workflow``."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Workflow"]
    if not classes:
        return Refusal(Outcome.NO_WORKFLOW, "The source defines no `class Workflow` at its top level.")
    workflow = classes[-1]
    checks: list[Callable[[ast.Module, ast.ClassDef], Iterator[Fault]]] = [
        *(_top_level, _class_body, _entry, _imports, _names, _reached, _members, _find_nested_classes, _awaits),
    ]
    faults = [fault for check in checks for fault in check(tree, workflow)]
    faults += [Fault(*unknown) for unknown in find_unknown_workers(workflow, workers)]
    if not faults:
        return None
    first = min(fault.line for fault in faults)
    told = list(dict.fromkeys(sorted(faults)))
    seen = {fault.message: fault for fault in reversed(told)}
    told = [f"Line {fault.line}: {fault.message}." for fault in told if seen[fault.message] is fault]
    more = f" And {len(told) - MAX_FAULTS} more." if len(told) > MAX_FAULTS else ""
    return Refusal(Outcome.FORBIDDEN, " ".join(told[:MAX_FAULTS]) + more, first)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _top_level(tree: ast.Module, workflow: ast.ClassDef) -> Iterator[Fault]:
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Pass, *_FUNCTIONS)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            if node is not workflow:
                yield Fault(node.lineno, f"`class {node.name}` stands beside the Workflow; there must be exactly one class, named Workflow")
        elif not isinstance(node, allowed) and not _is_text(node):
            yield Fault(node.lineno, f"`{_head(node)}` is not allowed at the top level; use imports, functions, constants and the class")


def _class_body(tree: ast.Module, workflow: ast.ClassDef) -> Iterator[Fault]:
    bases = [base for base in workflow.bases if not (isinstance(base, ast.Name) and base.id == "object")]
    if bases or workflow.keywords or workflow.decorator_list:
        yield Fault(workflow.lineno, "Workflow takes no base classes, keywords or decorators")
    for node in workflow.body:
        if isinstance(node, _FUNCTIONS):
            yield from _method(node)
        elif not isinstance(node, (ast.Assign, ast.AnnAssign, ast.Pass)) and not _is_text(node):
            yield Fault(node.lineno, f"`{_head(node)}` is not allowed in the class body; use methods and constants")


def _method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Fault]:
    decorators = [decorator.id if isinstance(decorator, ast.Name) else "" for decorator in node.decorator_list]
    static = "staticmethod" in decorators
    if not {"staticmethod", "property"}.issuperset(decorators):
        yield Fault(node.lineno, f"method {node.name} has a decorator; only staticmethod and property are allowed")
    if node.name in OPERATORS:
        yield Fault(node.lineno, f"method {node.name} would replace the operator of that name; give it another name")
    if is_dunder(node.name) and node.name not in ("__call__", "__init__"):
        yield Fault(node.lineno, f"method {node.name} is not allowed; the only special methods are __call__ and __init__")
    parameters = [*node.args.posonlyargs, *node.args.args]
    if not static and (not parameters or parameters[0].arg != "self"):
        yield Fault(node.lineno, f"the first parameter of method {node.name} must be self")
    if node.name == "__init__" and (isinstance(node, ast.AsyncFunctionDef) or _parameters(node) != ["self"]):
        yield Fault(node.lineno, "__init__ must be `def __init__(self)`")


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str] | None:
    """Names of plain positional parameters; None where there are others, or defaults."""
    args = node.args
    if args.vararg or args.kwarg or args.kwonlyargs or args.defaults:
        return None
    return [parameter.arg for parameter in (*args.posonlyargs, *args.args)]


def _entry(tree: ast.Module, workflow: ast.ClassDef) -> Iterator[Fault]:
    entries = [node for node in workflow.body if isinstance(node, _FUNCTIONS) and node.name == "__call__"]
    if len(entries) != 1:
        many = f"{len(entries)} methods __call__" if entries else "no method __call__"
        yield Fault(workflow.lineno, f"Workflow has {many}; it needs one `async def __call__(self, problem)`")
        return
    (entry,) = entries
    if isinstance(entry, ast.FunctionDef) or _parameters(entry) != ["self", "problem"]:
        yield Fault(entry.lineno, "__call__ must be `async def __call__(self, problem)`")
    own = list(_own_nodes(entry))
    if any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own):
        yield Fault(entry.lineno, "__call__ must return its answer, not yield")
    elif not any(isinstance(node, ast.Return) and node.value is not None for node in own):
        yield Fault(entry.lineno, "__call__ returns no answer; it needs a `return` with a text")


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function without those of functions inside it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, (*_FUNCTIONS, ast.Lambda)):
            yield child
            yield from _own_nodes(child)


def _imports(tree: ast.Module, workflow: ast.ClassDef) -> Iterator[Fault]:
    allowed = ", ".join(sorted(ALLOWED_MODULES))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name not in {*ALLOWED_MODULES, "collections.abc"}]
            for name in names:
                yield Fault(node.lineno, f"`import {name}` is not allowed; modules are {allowed}")
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module not in {*ALLOWED_MODULES, "collections.abc"}:
                yield Fault(node.lineno, f"`from {module} import` is not allowed; modules are {allowed}")


def _names(tree: ast.Module, workflow: ast.ClassDef) -> Iterator[Fault]:
    bound = bound_names(tree)
    known = bound | PREBOUND | set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if is_dunder(node.id) or (node.id in FORBIDDEN_NAMES and node.id not in bound):
                yield Fault(node.lineno, f"`{node.id}` is not allowed")
            elif node.id not in known:
                yield Fault(node.lineno, f"the name `{node.id}` is not defined")


def _reached(tree: ast.Module, workflow: ast.ClassDef) -> Iterator[Fault]:
    yield from find_reached(tree, ALLOWED_MODULES)


def _members(tree: ast.Module, workflow: ast.ClassDef) -> Iterator[Fault]:
    """Operators and methods that are used exist, and no operator is replaced."""
    attributes = (node for node in ast.walk(workflow) if isinstance(node, ast.Attribute))
    uses = [node for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"]
    stored = {node.attr for node in uses if isinstance(node.ctx, ast.Store)}
    constants = {
        part.id for node in workflow.body if not isinstance(node, _FUNCTIONS) for part in ast.walk(node) if isinstance(part, ast.Name)
    }
    methods = {node.name for node in workflow.body if isinstance(node, _FUNCTIONS)}
    for node in uses:
        if node.attr in OPERATORS and not isinstance(node.ctx, ast.Load):
            yield Fault(node.lineno, f"self.{node.attr} is an operator and cannot be replaced")
        elif node.attr not in OPERATORS.keys() | stored | constants | methods and not is_dunder(node.attr):
            yield Fault(node.lineno, f"self.{node.attr} does not exist; the operators are {', '.join(OPERATORS)}")


def _find_nested_classes(tree: ast.Module, workflow: ast.ClassDef) -> Iterator[Fault]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node not in tree.body:
            yield Fault(node.lineno, f"`class {node.name}` is nested; there must be exactly one class, named Workflow")


def _awaits(tree: ast.Module, workflow: ast.ClassDef) -> Iterator[Fault]:
    for call in find_unawaited(workflow):
        yield Fault(call.lineno, f"`{_head(call)}` is not awaited; write `await` before it or pass it to asyncio.gather")


def _head(node: ast.AST) -> str:
    """The first line of a construct, cut to a readable length."""
    text = ast.unparse(node).splitlines()[0]
    return text if len(text) <= 60 else text[:57] + "..."
