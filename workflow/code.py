"""Finding the program in a text of a model: the last complete definition, with what it needs from other blocks."""

import ast
import builtins
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from workflow.blocks import Block, Parsing, find_bare, find_blocks
from workflow.text import cut_end_tokens, split_thoughts

MAX_CHARACTERS = 200_000
"""Only the end of a longer text is searched."""
_LABELS = re.compile(r"\A\s{0,9}(?:python|py|\[(?:BEGIN|PYTHON)\])\s*\n|\n\[(?:DONE|END|/PYTHON)\]\s*\Z", re.IGNORECASE)
"""What stands around a program without fences."""
MAX_PROGRAMS = 16
"""The last blocks among which a program is looked for."""
_READS = {"input", "stdin", "open(0)", "fileinput"}
_PRINTS = {"print", "stdout"}
_TESTS = {"unittest", "pytest", "subprocess", ".stdin =", repr("builtins.input"), repr("sys.stdin")}
"""What calls a program, or gives it its input, is no solution."""
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def extract_code(text: str, entry_point: str = "") -> str:
    """The program in a reply: the last complete definition of ``entry_point``, with what it needs from other blocks.

    Thoughts are no part of a reply. A stub (``...``, ``raise NotImplementedError``) is no complete definition. A class with a method of
    that name is one, whose method is bound to the name; a value, such as the result of a call, only where there is neither.
    Without ``entry_point`` the last program counts: what reads input and prints before what does less, as its tests and excerpts do;
    where there are no blocks, the longest piece that is Python, else the whole text.
    """
    named = re.compile(rf"\b(?:def|class)\s{{1,9}}{re.escape(entry_point)}\b") if entry_point else None
    text = read_answer_text(text, named)
    parsing = Parsing(len(text))
    whole = parsing.block(_LABELS.sub("", text), "python")
    if whole.tree is not None and (not entry_point or _defines(whole.tree, entry_point)):
        return whole.source.strip("\n")
    fenced, prose = find_blocks(text, parsing)
    python = [block for block in fenced if block.language in ("python", "")] or fenced
    if not entry_point:
        found = _program(python)
        if found is None or not _does(found, python):
            bare = sorted(find_bare(prose, parsing), key=lambda block: len(block.source))[-MAX_PROGRAMS:]
            found = _last([block for block in bare if found is None or _does(block, bare)]) or found
            python = [*python, *bare]
        return join_needed(found, python) if found else text.strip("\n")
    found, blocks = _defining(python, entry_point), python
    if found is None:
        bare = list(find_bare([*prose, *(block.source for block in python if block.tree is None)], parsing))
        blocks = [*python, *bare]
        found = _defining(blocks, entry_point)
    if found is None and (method := _method(blocks, entry_point)) is not None:
        return method
    if found is None and named is not None:
        found = _last(_binding(blocks, entry_point), [block for block in blocks if named.search(block.source)], python)
    return join_needed(found, blocks) if found else whole.source.strip("\n")


def read_answer_text(text: str, code: re.Pattern[str] | None) -> str:
    """The end of a text without its thoughts and end tokens, in plain lines.

    Args:
        code: what the answer's code begins with; thoughts end before the last of it.
    """
    text = text[-MAX_CHARACTERS:].replace("\r\n", "\n").removeprefix("\ufeff")
    starts = [found.start() for found in code.finditer(text)] if code and "</think>" in text else []
    return cut_end_tokens(split_thoughts(text, starts[-1] if starts else None)[1])


def _last(*choices: Sequence[Block]) -> Block | None:
    return next((blocks[-1] for blocks in choices if blocks), None)


def _program(blocks: Sequence[Block]) -> Block | None:
    """The last of the blocks that do the most; of equal ones with a label ``python`` before one without, and what is no Python last."""
    latest = list(enumerate(blocks))[-MAX_PROGRAMS:]
    ranked = [(block.tree is not None, _does(block, blocks), block.language == "python", index) for index, block in latest]
    return blocks[max(ranked)[-1]] if ranked else None


def _does(block: Block, blocks: Sequence[Block]) -> int:
    """2 for a block that reads input and prints, with what it needs from others; 1 for one of the two, 0 for neither or a test."""
    if block.tree is None:
        return 0
    own = _mentioned(block.tree)
    if own & _TESTS and not own & _READS:
        return 0
    names = own.union(*(_mentioned(node) for node, _ in _needed(block, blocks)))
    return bool(names & _READS) + bool(names & _PRINTS)


def _mentioned(tree: ast.AST) -> set[str]:
    """Names that are read, also behind a dot; ``open(0)`` as such, what is written behind a dot as ``.name =``, and short texts."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="open"), args=[ast.Constant(value=0), *_]):
                found.add("open(0)")
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name, ctx=ast.Load()) | ast.alias(name=name):
                found.add(name)
            case ast.Attribute(attr=name):
                found.add(f".{name} =")
            case ast.Constant(value=str(text)) if len(text) < 20:
                found.add(repr(text))
    return found


def _defining(blocks: Sequence[Block], name: str) -> Block | None:
    """The last block with a complete definition: a function, a class or another name of one."""
    return _last([block for block, found in _found(blocks, name) if not is_stub(found) and _is_callable(found)])


def _binding(blocks: Sequence[Block], name: str) -> list[Block]:
    """The blocks with a value of that name, else those with a stub."""
    bound = _found(blocks, name)
    return [block for block, found in bound if not is_stub(found)] or [block for block, _ in bound]


def _found(blocks: Sequence[Block], name: str) -> list[tuple[Block, ast.stmt]]:
    return [(block, found) for block in blocks if block.tree is not None and (found := _defines(block.tree, name))]


def _is_callable(node: ast.stmt) -> bool:
    """False for a value that is none for certain, or the result of a call."""
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    return isinstance(node, _DEFINITIONS) or isinstance(value, ast.Lambda | ast.Name | ast.Attribute)


def _defines(tree: ast.Module, name: str) -> ast.stmt | None:
    """The last statement at top level that binds a name to a function, a class or a value."""
    return next(
        (node for node in reversed(tree.body) if name in _bound_by(node) and not isinstance(node, ast.Import | ast.ImportFrom)), None
    )


def is_stub(node: ast.stmt) -> bool:
    """True for a definition that does nothing yet: ``...``, ``pass``, ``raise NotImplementedError``, or such methods alone."""
    if not isinstance(node, _DEFINITIONS):
        return False
    return all(_is_empty(each) or (isinstance(each, _DEFINITIONS) and is_stub(each)) for each in node.body)


def _is_empty(node: ast.stmt) -> bool:
    if isinstance(node, ast.Raise) and node.exc is not None:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(kind, ast.Name) and kind.id == "NotImplementedError"
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _method(blocks: Sequence[Block], name: str) -> str | None:
    """The last block with a class that has such a method, which is then bound to the name (``class Solution`` of coding sites)."""
    found = [
        (not is_stub(method), index, kind.name)
        for index, block in enumerate(blocks)
        for kind in (block.tree.body if block.tree else [])
        if isinstance(kind, ast.ClassDef)
        for method in kind.body
        if isinstance(method, _DEFINITIONS) and method.name == name
    ]
    if not found:
        return None
    _, index, kind = max(found)
    return f"{join_needed(blocks[index], blocks)}\n\n{name} = {kind}().{name}"


@lru_cache(maxsize=4096)
def read_preamble(query: str, entry_point: str) -> tuple[str, ...]:
    """What stands before the function in a query that shows its beginning, statement by statement: it holds for the solution, too.

    Of a query that is Python (HumanEval) all but the function; of code in running text (BigCodeBench) the imports.
    """
    parsing = Parsing(len(query))
    tree = parsing.tree(query)
    if tree is not None:
        given = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) or _bound_by(node)]
        return tuple(ast.unparse(node) for node in given if entry_point not in _bound_by(node))
    fenced, prose = find_blocks(query, parsing)
    bare = find_bare([*prose, *(block.source for block in fenced if block.tree is None)], parsing)
    trees = [block.tree for block in (*fenced, *bare) if block.tree is not None]
    return tuple(ast.unparse(node) for tree in trees for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))


def join_needed(chosen: Block, blocks: Iterable[Block]) -> str:
    """The source of a block, after the definitions and imports in other blocks that it reaches."""
    texts = list(dict.fromkeys(text for _, text in _needed(chosen, blocks)))
    parts = [chosen.source, *texts] if "from __future__" in chosen.source else [*texts, chosen.source]
    return "\n\n".join(parts)


def _needed(chosen: Block, blocks: Iterable[Block]) -> list[tuple[ast.stmt, str]]:
    """The statements of other blocks that a block reaches, in their order, with their sources."""
    if chosen.tree is None:
        return []
    given: dict[str, tuple[int, ast.stmt, str]] = {}
    for block in blocks:
        lines = block.source.split("\n")
        for node in block.tree.body if block.tree is not None and block is not chosen else []:
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
            given |= {name: (len(given), node, "\n".join(lines[first - 1 : node.end_lineno])) for name in _bound_by(node)}
    needed: dict[str, tuple[int, ast.stmt, str]] = {}
    missing = list(missing_names(chosen.tree)) if given else []
    while missing:
        name = missing.pop()
        if name in given and name not in needed:
            needed[name] = given[name]
            missing += missing_names(given[name][1])
    return [(node, text) for _, node, text in sorted(needed.values(), key=lambda each: each[0])]


def _bound_by(node: ast.stmt) -> set[str]:
    """The names that a definition, an import or an assignment gives a meaning."""
    if isinstance(node, _DEFINITIONS):
        return {node.name}
    return bound_names(node) if isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign) else set()


def missing_names(tree: ast.AST) -> set[str]:
    """Names that are read and that neither the tree nor Python gives a meaning."""
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return read - bound_names(tree) - set(dir(builtins))


def bound_names(tree: ast.AST) -> set[str]:
    """Every name that a tree binds, in any scope."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.add(name)
            case ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.alias(name=name, asname=alias):
                bound.add(alias or name.partition(".")[0])
    return bound
