"""Places of a Python function where a mutation makes a really wrong program, and the mutated program.

The operators are the classic ones of mutation testing (DeMillo et al. 1978, Offutt et al. 1996): relations, arithmetic,
boolean connectives, constants off by one, negated conditions, dropped statements. Everything up to the end of the last
``while`` loop is left alone, since such mutants often run for ever.
"""

import ast
import copy
from dataclasses import dataclass
from typing import Literal

_RELATIONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.Gt, ast.LtE),
    ast.LtE: (ast.Gt, ast.Lt),
    ast.Gt: (ast.Lt, ast.GtE),
    ast.GtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "reversed", "sum": "len", "len": "sum"}
_METHODS = {
    "lower": "upper",
    "upper": "lower",
    "append": "remove",
    "startswith": "endswith",
    "endswith": "startswith",
    "isupper": "islower",
}

Kind = Literal["relation", "arithmetic", "connective", "constant", "condition", "name", "method", "statement", "result"]


@dataclass(frozen=True, slots=True)
class Site:
    """One mutation: the node's number in ``ast.walk`` order and what happens to it."""

    node: int
    line: int
    kind: Kind
    choice: int = 0
    """Which replacement, or the position of the dropped statement."""


def without_docstrings(tree: ast.Module) -> ast.Module:
    """Removes docstrings in place, so that equal programs have equal text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def find_sites(tree: ast.Module) -> tuple[Site, ...]:
    """Every mutation of the module's functions, in a fixed order; where there is none, the last result becomes None."""
    nodes = list(ast.walk(tree))
    numbers = {id(node): number for number, node in enumerate(nodes)}
    body = [
        node for function in nodes if isinstance(function, ast.FunctionDef) for statement in function.body for node in ast.walk(statement)
    ]
    spared = {id(node) for text in body if isinstance(text, ast.JoinedStr) for node in ast.walk(text)}
    first_line = max((loop.end_lineno or 0 for loop in body if isinstance(loop, ast.While)), default=0) + 1
    seen: set[int] = set()
    sites: list[Site] = []
    for node in body:
        line = getattr(node, "lineno", 0)
        if line >= first_line and id(node) not in spared and id(node) not in seen:
            seen.add(id(node))
            number = numbers[id(node)]
            sites += [Site(number, line, kind, choice) for kind, choice in _mutations(node)]
    if not sites:
        returns = [node for node in body if isinstance(node, ast.Return)]
        sites = [Site(numbers[id(node)], node.lineno, "result") for node in sorted(returns, key=lambda node: node.lineno)[-1:]]
    return tuple(sites)


def _mutations(node: ast.AST) -> list[tuple[Kind, int]]:
    match node:
        case ast.Compare(ops=[relation]) if type(relation) in _RELATIONS:
            return [("relation", choice) for choice in range(len(_RELATIONS[type(relation)]))]
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in _ARITHMETIC:
            return [("arithmetic", 0)]
        case ast.BoolOp():
            return [("connective", 0)]
        case ast.Constant(value=bool()):
            return [("constant", 0)]
        case ast.Constant(value=int() | float()):
            return [("constant", 0), ("constant", 1)]
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            return [("name", 0)]
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in _METHODS:
            return [("method", 0)]
        case ast.If():
            return [("condition", 0)]
        case ast.For():
            plain = (ast.Expr, ast.AugAssign)
            return [("statement", position) for position, part in enumerate(node.body) if isinstance(part, plain)]
    return []


def mutate(tree: ast.Module, sites: tuple[Site, ...]) -> ast.Module:
    """A copy of the tree with these mutations."""
    tree = copy.deepcopy(tree)
    nodes = list(ast.walk(tree))
    for site in sites:
        _apply(nodes[site.node], site)
    return ast.fix_missing_locations(tree)


def _apply(node: ast.AST, site: Site) -> None:
    match node:
        case ast.Compare():
            node.ops = [_RELATIONS[type(node.ops[0])][site.choice]()]
        case ast.BinOp() | ast.AugAssign():
            node.op = _ARITHMETIC[type(node.op)]()
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + (1 if site.choice == 0 else -1)
        case ast.Call(func=ast.Name() as func):
            func.id = _NAMES[func.id]
        case ast.Call(func=ast.Attribute() as func):
            func.attr = _METHODS[func.attr]
        case ast.If():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.For():
            node.body[site.choice] = ast.Pass()
        case ast.Return():
            node.value = ast.Constant(None)
