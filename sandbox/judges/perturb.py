"""Negative controls: a unittest case with wrong expectations, which an honest solution fails."""

import ast
from functools import lru_cache
from typing import Literal

Side = Literal["second", "first"]
SIDES: tuple[Side, ...] = ("second", "first")
"""Which side of a comparison is made wrong; tests are written either way round."""

_OPPOSITES = (
    ("assertTrue", "assertFalse"),
    ("assertIsNone", "assertIsNotNone"),
    ("assertIsInstance", "assertNotIsInstance"),
)
_INVERTED = {one: other for pair in _OPPOSITES for one, other in (pair, pair[::-1])}
_INVERTED |= {f"assert{negative}": f"assert{plain}" for negative, plain in (("NotEqual", "Equal"), ("NotIn", "In"), ("IsNot", "Is"))}
_RAISES = ("assertRaises", "assertRaisesRegex", "assertWarns", "assertWarnsRegex")


@lru_cache(maxsize=4096)
def perturb(test: str, side: Side) -> str | None:
    """The test with every expectation made wrong on one side; None where it has none that can be."""
    tree = ast.parse(test)
    perturb = _Perturb(0 if side == "first" else 1)
    tree = perturb.visit(tree)
    return ast.unparse(ast.fix_missing_locations(tree)) if perturb.changed else None


def _wrong(value: ast.expr) -> ast.expr:
    """Equal to nothing that equals the value: a pair that holds it."""
    return ast.Tuple([ast.Constant("perturbed"), value], ast.Load())


class _Perturb(ast.NodeTransformer):
    def __init__(self, position: int) -> None:
        self.position = position
        self.changed = False

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if not (isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id == "self"):
            return node
        name = node.func.attr
        if name in _INVERTED:
            node.func.attr = _INVERTED[name]
            self.changed = True
        elif name in _RAISES and node.args:
            node.args[0] = ast.Name("ZeroDivisionError", ast.Load()) if "Raises" in name else ast.Name("BytesWarning", ast.Load())
            self.changed = True
        elif name.startswith("assert") and len(node.args) >= 2:
            node.args[self.position] = _wrong(node.args[self.position])
            self.changed = True
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        self.generic_visit(node)
        self.changed = True
        if isinstance(node.test, ast.Compare) and len(node.test.ops) == 1 and isinstance(node.test.ops[0], ast.Eq):
            if self.position:
                node.test.comparators[0] = _wrong(node.test.comparators[0])
            else:
                node.test.left = _wrong(node.test.left)
        else:
            node.test = ast.UnaryOp(ast.Not(), node.test)
        return node
