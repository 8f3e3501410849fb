"""Examples in the text of a query, as asserts: calls of the function with what they give, in the forms in which people write them down.

    >>> f(1)          f(1) ➞ 2          f(1) == 2          f(1) returns 2          f(1)  # returns 2
    2                 f(1) => 2         f(1) = 2           f(1) should return 2    f(1) # => 2

Only literal arguments and results are read; a line that goes on behind the result (``19 - 5 = 14``, ``5 if ...``) is none of them.
"""

import ast
import re
from collections.abc import Iterator

SIGN = re.compile(
    r"[ \t]*(?:#[ \t]*)?(?:➞|→|⇒|==?>|->|={1,3}|(?:(?:should|will|must)[ \t]+)?(?:returns?|be|gives?)\b|is\b)[ \t]*:?[ \t]*|[ \t]*\n[ \t]*"
)
"""What stands between a call and its result; a line break does where the call stands at a prompt."""
TAIL = re.compile(r"[ \t]*[.;,]?[ \t]*(?:[#(].*|\"{3}|'{3})?")
"""What may follow a result on its line."""
MAX_CHARACTERS = 600
"""Length of a call or of a result, at most."""
WORDS = {"true": "True", "false": "False", "null": "None"}
"""Spellings of other languages."""


def find_examples(text: str, entry_point: str) -> list[str]:
    """An assert for each example of the text, in its order and without repeats: ``assert f(1) == 2``."""
    found = (_read_example(text, match.start()) for match in re.finditer(rf"(?<![\w.]){re.escape(entry_point)}\(", text))
    return list(dict.fromkeys(f"assert {call} == {result}" for call, result in filter(None, found)))


def _read_example(text: str, start: int) -> tuple[str, str] | None:
    line = text.rfind("\n", 0, start) + 1
    at_prompt = text[line:start].lstrip().startswith(">>>")
    call = (_read_line(text, line) if at_prompt else None) or _read_call(text, start)
    if call is None:
        return None
    source, end = call
    sign = SIGN.match(text, end)
    if sign is None or ("\n" in sign[0] and not at_prompt):
        return None
    result = _read_literal(text[sign.end() : sign.end() + MAX_CHARACTERS])
    return None if result is None else (source, result)


def _read_line(text: str, line: int) -> tuple[str, int] | None:
    """The call behind the prompt that the line begins with, and where it ends; the function may stand inside: ``round(f(1), 2)``."""
    end = text.find("\n", line)
    try:
        node = ast.parse(text[line:end].strip().removeprefix(">>>").strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
    return (ast.unparse(node), end) if isinstance(node, ast.Call) else None


def _read_call(text: str, start: int) -> tuple[str, int] | None:
    """The call that begins there, with literal arguments alone, and where it ends."""
    for end in (start + match.end() for match in re.finditer(r"\)", text[start : start + MAX_CHARACTERS])):
        try:
            node = ast.parse(text[start:end], mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if not isinstance(node, ast.Call) or not all(map(_is_literal, [*node.args, *(one.value for one in node.keywords)])):
            return None
        return ast.unparse(node), end
    return None


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError):  # TypeError: a list as a key
        return False
    return True


def _read_literal(text: str) -> str | None:
    """The literal that the text begins with, where the rest of its line is no part of an expression."""
    for end in _ends(text):
        word = text[:end].strip()
        try:
            node = ast.parse(WORDS.get(word, word), mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if _is_literal(node):
            return ast.unparse(node) if TAIL.fullmatch(text[end:].partition("\n")[0]) else None
    return None


def _ends(text: str) -> Iterator[int]:
    """Where a literal may end: on the first line, the longest first; behind it where a bracket is left open."""
    first = len(text.partition("\n")[0])
    yield from range(first, 0, -1)
    if text[:1] in ("[", "(", "{"):
        yield from (match.end() for match in re.finditer(r"[\])}]", text) if match.end() > first)


class Rename(ast.NodeTransformer):
    """Calls one name by another one."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.new, node.ctx) if node.id == self.old else node


def asserted(test: str, entry_point: str) -> str:
    """Equal for asserts that say the same, whatever they call the function and without the message; empty where it is no lone assert."""
    try:
        body = ast.parse(test).body
    except (SyntaxError, ValueError):
        return ""
    if len(body) != 1 or not isinstance(body[0], ast.Assert):
        return ""
    return ast.dump(Rename(entry_point, "candidate").visit(body[0].test))
