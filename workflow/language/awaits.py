"""Operator calls that nobody awaits: the commonest slip in generated workflows.

A call of an operator or of an async method makes a coroutine. It may be awaited, be an element of a collection, be an
argument of a function other than an operator (``asyncio.gather``, ``tasks.append``), be returned by a helper, or be bound to a
name that is used in such a way. Anything else uses the coroutine as if it were the result.
"""

import ast
from collections.abc import Iterator

from workflow.operators import OPERATORS

_COLLECTIONS = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
_PASSES_ON = (*_COLLECTIONS, ast.Starred, ast.IfExp, ast.BoolOp, ast.NamedExpr, ast.keyword)


def find_unawaited(workflow: ast.ClassDef) -> Iterator[ast.Call]:
    """Calls on ``self`` whose coroutine is neither awaited nor handed on, in no particular order."""
    asynchronous = OPERATORS.keys() | {node.name for node in workflow.body if isinstance(node, ast.AsyncFunctionDef)}
    flow = _Flow(workflow, asynchronous)
    for node in ast.walk(workflow):
        if isinstance(node, ast.Call) and flow.is_asynchronous(node) and not flow.is_handed_on(node):
            yield node


class _Flow:
    """Where the value of an expression goes."""

    def __init__(self, workflow: ast.ClassDef, asynchronous: set[str]) -> None:
        self.asynchronous = asynchronous
        self.parents = {child: node for node in ast.walk(workflow) for child in ast.iter_child_nodes(node)}

    def is_asynchronous(self, node: ast.Call) -> bool:
        """True for calls of operators and async methods on ``self``."""
        function = node.func
        return (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id == "self"
            and function.attr in self.asynchronous
        )

    def is_handed_on(self, node: ast.AST, *, follow: bool = True, collected: bool = False) -> bool:
        """True where the coroutine (or, with ``collected``, a collection of coroutines) goes somewhere it can be awaited."""
        parent = self.parents[node]
        while isinstance(parent, _PASSES_ON):
            if isinstance(parent, ast.IfExp) and parent.test is node:
                return False
            collected = collected or isinstance(parent, _COLLECTIONS)
            node, parent = parent, self.parents[parent]
        match parent:
            case ast.Await() | ast.Yield() | ast.Lambda():
                return True
            case ast.Call():
                return node is not parent.func and not self.is_asynchronous(parent)
            case ast.Return():
                return self._function_name(parent) != "__call__"
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if follow:
                uses = [use for use in self.parents if isinstance(use, ast.Name) and use.id == name and isinstance(use.ctx, ast.Load)]
                return any(self.is_handed_on(use, follow=False, collected=collected) for use in uses)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                return True
        return collected and not isinstance(parent, ast.Expr)

    def _function_name(self, node: ast.AST) -> str:
        while not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node = self.parents[node]
        return node.name
