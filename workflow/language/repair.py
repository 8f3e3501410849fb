"""Harmless habits of models, put right before the checks: each is counted (``Workflow.repairs``, ``workflow/repaired``).

A policy learns nothing by being refused for ``super().__init__()``; what is run, measured and fingerprinted is the repaired source.
"""

import ast
from collections.abc import Callable, Iterator
from keyword import iskeyword

from workflow.code import bound_names

PROBLEM_ATTRIBUTES = frozenset({"query", "entry_point", "public_tests"})
"""They are there, so a default for them is never needed. Of reports that cannot be said: the same name may hold a text."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def repair(tree: ast.Module, allowed_modules: frozenset[str]) -> tuple[str, ...]:
    """Repairs a tree in place; its nodes keep their lines. Returns the names of what was repaired."""
    repairs: dict[str, Callable[[], bool]] = {
        "__main__ block": lambda: _drop(tree, _is_main_block),
        "from __future__": lambda: _drop(tree, lambda node: isinstance(node, ast.ImportFrom) and node.module == "__future__"),
        "super().__init__()": lambda: _drop(tree, _is_super_init),
        "logging": lambda: _drop_logging(tree),
        "default parameters": lambda: _move_defaults(tree),
        "getattr": lambda: _Getattr().replace(tree),
        "unused import": lambda: _drop_unused_imports(tree, allowed_modules),
    }
    done = tuple(name for name, step in repairs.items() if step())
    ast.fix_missing_locations(tree)
    return done


def _bodies(tree: ast.AST) -> Iterator[tuple[ast.AST, str, list[ast.stmt]]]:
    """Every list of statements, with its owner and its name there."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                yield node, name, body


def _drop(tree: ast.Module, unwanted: Callable[[ast.stmt], bool]) -> bool:
    """Removes statements; ``pass`` stands where nothing is left."""
    found = False
    for owner, name, body in list(_bodies(tree)):
        kept = [node for node in body if not unwanted(node)]
        if len(kept) < len(body):
            found = True
            needs_one = name == "body" and not kept and owner is not tree
            setattr(owner, name, [ast.copy_location(ast.Pass(), body[0])] if needs_one else kept)
    return found


def _is_main_block(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and not node.orelse
        and ast.unparse(node.test)
        in (
            "__name__ == '__main__'",
            "'__main__' == __name__",
        )
    )


def _is_super_init(node: ast.stmt) -> bool:
    """``super().__init__(...)`` alone on its line; the class has no base whose constructor could be meant."""
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "__init__":
        return False
    made = call.func.value
    return isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.func.id == "super" and _is_idle(call)


def _is_idle(value: ast.expr) -> bool:
    """True where evaluating it asks no operator and binds nothing."""
    return not any(isinstance(node, ast.Await | ast.NamedExpr | ast.Yield | ast.YieldFrom) for node in ast.walk(value))


def _drop_logging(tree: ast.Module) -> bool:
    """Drops what only writes a log; what uses it otherwise stays, and is refused."""
    loggers = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and _module(node) == "logging"
        for name in bound_names(node)
    }
    if not loggers:
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _receiver(node.value.func) in loggers:
            loggers |= {ast.unparse(target) for target in node.targets}

    def only_logs(node: ast.stmt) -> bool:
        value = node.value if isinstance(node, ast.Expr | ast.Assign) else None
        return isinstance(value, ast.Call) and _receiver(value.func) in loggers and _is_idle(value)

    return _drop(tree, only_logs)


def _receiver(function: ast.expr) -> str:
    """What a method is called on, as text; of a plain function its name."""
    return ast.unparse(function.value if isinstance(function, ast.Attribute) else function)


def _module(node: ast.Import | ast.ImportFrom) -> str:
    return (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name


def _drop_unused_imports(tree: ast.Module, allowed: frozenset[str]) -> bool:
    """Drops imports of modules that a workflow may not import, where nothing uses them."""
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}

    def unused(node: ast.stmt) -> bool:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            return False
        names = bound_names(node)
        forbidden = _module(node).partition(".")[0] not in allowed
        return forbidden and bool(_module(node)) and "*" not in names and not names & read

    return _drop(tree, unused)


def _move_defaults(tree: ast.Module) -> bool:
    """Parameters of ``__call__`` and ``__init__`` that nobody gives become assignments, where their defaults are plain values."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Workflow"]
    methods = [node for kind in classes for node in kind.body if isinstance(node, _FUNCTIONS) and node.name in ("__call__", "__init__")]
    return any([_move(method, 2 if method.name == "__call__" else 1) for method in methods])


def _move(method: ast.FunctionDef | ast.AsyncFunctionDef, given: int) -> bool:
    args = method.args
    read = {node.id for node in ast.walk(method) if isinstance(node, ast.Name)}
    if args.posonlyargs or len(args.args) < given:
        return False
    defaults: dict[str, ast.expr | None] = {each.arg: None for each in args.args}
    defaults |= {each.arg: value for each, value in zip(args.args[::-1], args.defaults[::-1], strict=False)}
    defaults |= {each.arg: value for each, value in zip(args.kwonlyargs, args.kw_defaults, strict=True)}
    extra = {name: value for name, value in list(defaults.items())[given:] if value is not None and _is_plain(value)}
    if len(extra) < len(defaults) - given or any(each.arg in read for each in (args.vararg, args.kwarg) if each):
        return False
    if len(args.args) == given and not (args.defaults or args.kwonlyargs or args.vararg or args.kwarg):
        return False
    method.args = ast.arguments([], args.args[:given], None, [], [], None, [])
    has_text = isinstance(method.body[0], ast.Expr) and isinstance(method.body[0].value, ast.Constant)
    moved = [ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), method) for name, value in extra.items() if name in read]
    method.body[has_text:has_text] = moved
    return True


def _is_plain(value: ast.expr) -> bool:
    """True for what means the same wherever it is evaluated."""
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


class _Getattr(ast.NodeTransformer):
    """``getattr(problem, "public_tests", None)`` as ``problem.public_tests``."""

    found = False
    holds_problem = False
    """True inside of a ``__call__`` whose ``problem`` is what it was given, and nothing else."""

    def replace(self, tree: ast.Module) -> bool:
        """True where there was one."""
        if "getattr" not in bound_names(tree):
            self.visit(tree)
        return self.found

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        for index, part in enumerate(node.body):
            given = part.args.args[1:2] if isinstance(part, _FUNCTIONS) and part.name == "__call__" else []
            bound = {name for inner in getattr(part, "body", []) for name in bound_names(inner)}
            self.holds_problem = any(each.arg == "problem" for each in given) and "problem" not in bound
            node.body[index] = self.visit(part)
        self.holds_problem = False
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value=str(name)), *default], keywords=[]):
                if name.isidentifier() and not iskeyword(name) and name[0] != "_" and (not default or self._has(value, name, default)):
                    self.found = True
                    return ast.copy_location(ast.Attribute(value, name, ast.Load()), node)
        return node

    def _has(self, value: ast.expr, name: str, default: list[ast.expr]) -> bool:
        """True where the value has that attribute for certain, and the default would do nothing."""
        is_problem = isinstance(value, ast.Name) and value.id == "problem" and self.holds_problem
        return is_problem and name in PROBLEM_ATTRIBUTES and len(default) == 1 and _is_idle(default[0])
