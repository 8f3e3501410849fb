"""What a workflow looks like, read off its AST: size, branches, loops, depth, operators, fingerprint. Pure functions.

``units`` is the complexity measure of the reward: the paper names AST-based complexity and publishes no formula. One
unit each for a statement, an ``await``, an operator site, a comprehension loop, a conditional expression, a boolean
connective, an assignment expression, a lambda, a decorator, a default argument, an ``except`` and a ``case``. Free are
docstrings, imports, ``pass``, the two headers that every workflow has, and ``return answer``, since naming a value before it
is returned is a matter of style. So a single call has 3 units either way and a test-and-revise loop 12.
"""

import ast
import builtins
import copy
import hashlib
from typing import NamedTuple

from workflow.operators import OPERATORS

_FREE = (ast.Import, ast.ImportFrom, ast.Pass, ast.ClassDef)
_UNITS = (ast.Await, ast.comprehension, ast.IfExp, ast.NamedExpr, ast.Lambda, ast.ExceptHandler, ast.match_case)
_BRANCHES = (ast.If, ast.IfExp, ast.BoolOp, ast.ExceptHandler, ast.match_case)
_LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.comprehension)
_NESTING = (
    *(ast.If, ast.IfExp, ast.Match, ast.Try, ast.TryStar, ast.For, ast.AsyncFor, ast.While),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PLAIN_TYPES = frozenset({"str", "int", "float", "bool", "list", "dict", "tuple", "set", "object"})


class Shape(NamedTuple):
    """The measures of ``workflow.program.Workflow``, in its order."""

    operators: tuple[str, ...]
    branches: int
    loops: int
    depth: int
    units: int


def measure(tree: ast.Module) -> Shape:
    """Size and topology of a workflow.

    Every mention of an operator counts as a site, called or not and whatever its receiver, so that
    ``draft = self.generate`` hides nothing.
    """
    nodes = list(ast.walk(tree))
    sites = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr in OPERATORS]
    sites.sort(key=lambda site: (site.end_lineno or 0, site.end_col_offset or 0))
    branches = sum(isinstance(node, _BRANCHES) for node in nodes)
    branches += sum(len(node.values) - 2 for node in nodes if isinstance(node, ast.BoolOp))
    branches += sum(len(node.ifs) for node in nodes if isinstance(node, ast.comprehension))
    return Shape(
        operators=tuple(site.attr for site in sites),
        branches=branches,
        loops=sum(isinstance(node, _LOOPS) for node in nodes),
        depth=_depth(tree),
        units=len(sites) + sum(_units(node) for node in nodes),
    )


def _units(node: ast.AST) -> int:
    if isinstance(node, ast.stmt):
        is_entry = isinstance(node, ast.AsyncFunctionDef) and node.name == "__call__"
        hands_on = isinstance(node, ast.Return) and isinstance(node.value, ast.Name)
        decorators = len(node.decorator_list) if isinstance(node, _FUNCTIONS) else 0
        return decorators + int(not (isinstance(node, _FREE) or is_entry or hands_on or _is_text_alone(node)))
    if isinstance(node, ast.arguments):
        return len(node.defaults) + sum(default is not None for default in node.kw_defaults)
    return len(node.values) - 1 if isinstance(node, ast.BoolOp) else int(isinstance(node, _UNITS))


def _is_text_alone(node: ast.AST) -> bool:
    """True for docstrings and other texts that stand as a statement."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _depth(tree: ast.Module) -> int:
    deepest = 0
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        depth += isinstance(node, _NESTING)
        deepest = max(deepest, depth)
        for child in ast.iter_child_nodes(node):
            is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
            waiting.append((child, depth - is_elif))
    return deepest


def fingerprint(tree: ast.Module) -> str:
    """First 16 hex digits of the SHA-256 of the normalised AST.

    Equal fingerprints mean equal behaviour, so that siblings may share a run: layout, comments, docstrings,
    plain annotations and ``import asyncio`` (which every workflow has anyway) are dropped and local variables are numbered
    in order of appearance. Texts stay, since instructions matter. Comparable within one Python version.
    """
    tree = _Normaliser(_renamable(tree)).visit(copy.deepcopy(tree))
    return hashlib.sha256(ast.dump(tree).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _renamable(tree: ast.Module) -> set[str]:
    """Local variables whose name cannot matter: neither builtins, keywords of calls, attributes of the class nor bound otherwise."""
    nodes = list(ast.walk(tree))
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    fixed = {"self", "asyncio", "OperatorError", "BudgetExceeded", *dir(builtins)}
    for node in nodes:
        match node:
            case ast.keyword(arg=str(name)) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                fixed.add(name)
            case ast.alias(name=name, asname=alias):
                fixed.add(alias or name.partition(".")[0])
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                fixed.update(names)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                fixed.add(name)
            case ast.MatchMapping(rest=str(name)):
                fixed.add(name)
        if isinstance(node, ast.ClassDef):
            own = [part for statement in node.body if not isinstance(statement, _FUNCTIONS) for part in ast.walk(statement)]
            fixed.update(part.id for part in own if isinstance(part, ast.Name))
    return {name for name in bound - fixed if not name.startswith("__")}


class _Normaliser(ast.NodeTransformer):
    def __init__(self, renamable: set[str]) -> None:
        self.renamable = renamable
        self.numbers: dict[str, str] = {}

    def _new_name(self, name: str) -> str:
        return self.numbers.setdefault(name, f"${len(self.numbers)}") if name in self.renamable else name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._new_name(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._new_name(node.arg)
        if _is_plain_type(node.annotation):
            node.annotation = None
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        node.names = [alias for alias in node.names if (alias.name, alias.asname) != ("asyncio", None)]
        return node if node.names else None

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if _is_text_alone(node) else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None and _is_plain_type(node.annotation):
            return self.generic_visit(ast.Assign([node.target], node.value))
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if _is_plain_type(node.returns):
            node.returns = None
        return self.generic_visit(node)


def _is_plain_type(annotation: ast.expr | None) -> bool:
    """True for annotations that evaluate without effect or error, such as ``str``, ``list[str]`` and ``"Report"``."""
    match annotation:
        case ast.Constant() | None:
            return True
        case ast.Name(id=name):
            return name in _PLAIN_TYPES
        case ast.Subscript(value=ast.Name(id="list" | "dict" | "tuple" | "set"), slice=inner):
            return all(_is_plain_type(part) for part in (inner.elts if isinstance(inner, ast.Tuple) else [inner]))
    return False
