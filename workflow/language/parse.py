"""From a completion to a checked Workflow, or to a Refusal that says why there is none.

The checks here give early, precise feedback; they are no security boundary. That is the sandbox, which treats
every workflow as hostile whether it passed these checks or not.
"""

import ast
import bisect
import re
import textwrap
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from workflow.language.checks import check_tree
from workflow.language.shape import fingerprint, measure
from workflow.language.skeleton import skeleton
from workflow.outcome import Outcome
from workflow.program import Refusal, Workflow

T = TypeVar("T")

MAX_SOURCE_BYTES = 16_384
MAX_COMPLETION_CHARACTERS = 200_000
"""Only the end of a longer completion is searched."""
MAX_NODES = 4_000
MAX_DEPTH = 80
"""Nesting of the AST; honest workflows stay below 30."""
MAX_INTEGER_BITS = 256
"""Longer numbers cannot even be printed (CPython's limit is 4300 digits)."""

_CLASS = re.compile(r"^([^\S\n]*)class[^\S\n]+Workflow\b", re.MULTILINE)
_FENCE = re.compile(r"^[^\S\n]*```([^\n`]*)$\n?", re.MULTILINE)
_CODE_LINE = re.compile(r"\s|$|class\b|def\b|async\b|@|import\s|from\s|#|[)\]}]|[A-Za-z_]\w*\s*(?::.*)?=")
_MAX_CLOSINGS = 8


def parse_workflow(completion_text: str, workers: tuple[str, ...] = ()) -> Workflow | Refusal:
    """The workflow in a completion.

    What follows the reasoning (``</think>``) counts, else the whole text. There the last fenced block with a
    ``class Workflow`` is taken; where no fence has one, the last bare ``class Workflow`` to the end of its code;
    a plain source is its own workflow.

    Args:
        workers: names of the run's workers; empty where it has one, without a name.

    Returns:
        a Workflow, or a Refusal with NO_WORKFLOW, SYNTAX_ERROR or FORBIDDEN. Nothing is raised, whatever the text.
    """
    source = find_source(completion_text)
    if source is None:
        return Refusal(Outcome.NO_WORKFLOW, "The completion holds no `class Workflow`.")
    return parse_source(source, workers)


@lru_cache(maxsize=8192)
def parse_source(source: str, workers: tuple[str, ...] = ()) -> Workflow | Refusal:
    """The workflow whose Python text is given; equal texts are parsed once."""
    size = len(source.encode("utf-8", "surrogatepass"))
    if size > MAX_SOURCE_BYTES:
        return Refusal(Outcome.FORBIDDEN, f"The source has {size} bytes; at most {MAX_SOURCE_BYTES} are allowed.")
    tree = parse_tree(source)
    if isinstance(tree, Refusal):
        return tree
    refusal = _check_size(tree) or _check_compiles(source) or check_tree(tree, workers)
    if refusal is not None:
        return refusal
    return Workflow(source, fingerprint(tree), *measure(tree), skeleton=skeleton(tree))


def find_source(text: str) -> str | None:
    """The Python text of the workflow in a completion; None where there is no ``class Workflow``."""
    text = text[-MAX_COMPLETION_CHARACTERS:].replace("\r\n", "\n")
    text = text.partition("</think>")[2] or ("" if "</think>" in text else text)
    if not _CLASS.search(text):
        return None
    fenced = _last_fence(text)
    if fenced is not None:
        return fenced
    if isinstance(parse_tree(text), ast.Module):
        return text.strip("\n")
    return _bare_class(text)


def _last_fence(text: str) -> str | None:
    """The last fenced block with a ``class Workflow``; a block may hold fences in its own strings."""
    fences = list(_FENCE.finditer(text))
    is_open = False
    openings: list[int] = []
    for fence in fences:
        is_open = bool(fence[1].strip()) or not is_open
        openings.append(fence.end() if is_open else -1)
    starts = [fence.start() for fence in fences]
    for found in reversed(list(_CLASS.finditer(text))):
        before = bisect.bisect_left(starts, found.start())
        if not before or openings[before - 1] < 0:
            continue
        start = openings[before - 1]
        closings = starts[before : before + _MAX_CLOSINGS] or [len(text)]
        blocks = [textwrap.dedent(text[start:closing]).strip("\n") for closing in closings]
        return next((block for block in blocks if isinstance(parse_tree(block), ast.Module)), blocks[0])
    return None


def _bare_class(text: str) -> str:
    """From the last ``class Workflow`` to the last line that looks like code."""
    match = list(_CLASS.finditer(text))[-1]
    lines = textwrap.dedent(text[match.start() :]).splitlines()
    end = next((number for number, line in enumerate(lines) if not _CODE_LINE.match(line)), len(lines))
    return "\n".join(lines[:end]).strip("\n")


def parse_tree(source: str) -> ast.Module | Refusal:
    """The AST, or a Refusal where there is none."""
    if len(source) > MAX_SOURCE_BYTES:
        return Refusal(Outcome.SYNTAX_ERROR, f"More than {MAX_SOURCE_BYTES} characters are not parsed.")
    return _refuse_on_error(source, ast.parse)


def _check_compiles(source: str) -> Refusal | None:
    """Finds what the grammar allows and the compiler does not, such as ``await`` outside of an async function. Runs nothing."""
    done = _refuse_on_error(source, lambda text: compile(text, "<workflow>", "exec", dont_inherit=True))
    return done if isinstance(done, Refusal) else None


def _refuse_on_error(source: str, step: Callable[[str], T]) -> T | Refusal:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return step(source)
    except SyntaxError as error:
        return Refusal(Outcome.SYNTAX_ERROR, f"Line {error.lineno or '?'} is not Python: {error.msg}.", error.lineno)
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return Refusal(Outcome.SYNTAX_ERROR, f"The source cannot be parsed ({type(error).__name__}: {_printable(error)}).")


def _printable(error: BaseException) -> str:
    text = str(error).encode("ascii", "backslashreplace").decode()[:120]
    return text or "nested too deeply"


def _check_size(tree: ast.Module) -> Refusal | None:
    """Breadth first and without recursion, so that no tree can exhaust the stack."""
    level: list[ast.AST] = [tree]
    nodes = depth = 0
    while level:
        nodes += len(level)
        depth += 1
        if nodes > MAX_NODES:
            return Refusal(Outcome.FORBIDDEN, f"The workflow has more than {MAX_NODES} syntax nodes.")
        if depth > MAX_DEPTH:
            line = next((getattr(node, "lineno", None) for node in level if hasattr(node, "lineno")), None)
            return Refusal(Outcome.FORBIDDEN, f"Line {line}: the code is nested more than {MAX_DEPTH} levels deep.", line)
        for node in level:
            if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value.bit_length() > MAX_INTEGER_BITS:
                return Refusal(Outcome.FORBIDDEN, f"Line {node.lineno}: the number has more than {MAX_INTEGER_BITS} bits.", node.lineno)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return None
