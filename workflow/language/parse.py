"""From a completion to a checked Workflow, or to a Refusal that says why there is none.

The checks here give early, precise feedback; they are no security boundary. That is the sandbox, which treats
every workflow as hostile whether it passed these checks or not.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from workflow.blocks import Block, Parsing, find_bare, find_blocks
from workflow.code import is_stub, join_needed, read_answer_text
from workflow.language.checks import ALLOWED_MODULES, check_tree
from workflow.language.repair import repair
from workflow.language.shape import fingerprint, measure
from workflow.language.skeleton import skeleton
from workflow.outcome import Outcome
from workflow.program import Refusal, Workflow
from workflow.text import is_unfinished, show_blanks

T = TypeVar("T")

UNFINISHED = "The completion ended inside its thoughts, so it holds no workflow: close them and write it."

MAX_SOURCE_BYTES = 16_384
MAX_NODES = 4_000
MAX_DEPTH = 80
"""Nesting of the AST; honest workflows stay below 30."""
MAX_INTEGER_BITS = 256
"""Longer numbers cannot even be printed (CPython's limit is 4300 digits)."""

WORKFLOW_CLASS = re.compile(r"(?:^|(?<=</think>))[^\S\n]*class[^\S\n]+Workflow\b", re.MULTILINE)
_CODE_LINE = re.compile(r"\s|$|class\b|def\b|async\b|@|import\s|from\s|#|[)\]}]|[A-Za-z_]\w*\s*(?::.*)?=")


def parse_workflow(completion_text: str, workers: tuple[str, ...] = ()) -> Workflow | Refusal:
    """The workflow in a completion.

    What follows the thoughts counts (``workflow.text``). There the last fenced block with a ``class Workflow`` is taken, with what it
    needs from other blocks; where no fence has one, the last bare ``class Workflow`` to the end of its code; a plain source is its
    own workflow.

    Args:
        workers: names of the run's workers; empty where it has one, without a name.

    Returns:
        a Workflow, or a Refusal with NO_WORKFLOW, SYNTAX_ERROR or FORBIDDEN. Nothing is raised, whatever the text.
    """
    source = find_source(completion_text)
    if source is None:
        return Refusal(Outcome.NO_WORKFLOW, UNFINISHED if is_unfinished(completion_text) else "The completion holds no `class Workflow`.")
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
    refusal = _check_size(tree) or _check_compiles(source)
    if refusal is not None:
        return refusal
    repairs = repair(tree, ALLOWED_MODULES)
    if (refusal := check_tree(tree, workers)) is not None:
        return refusal
    if repairs:
        try:
            source = ast.unparse(tree)
        except ValueError:  # quotes that Python cannot write out again
            return Refusal(Outcome.FORBIDDEN, f"The workflow has what is of no use here: {', '.join(repairs)}. Leave it out.")
        tree = ast.parse(source)
    return Workflow(source, fingerprint(tree), *measure(tree), skeleton=skeleton(tree), repairs=repairs)


def find_source(text: str) -> str | None:
    """The Python text of the workflow in a completion; None where there is no ``class Workflow``."""
    text = read_answer_text(text, WORKFLOW_CLASS)
    shown = show_blanks(text)
    if not WORKFLOW_CLASS.search(shown):
        return None
    if isinstance(parse_tree(text), ast.Module):
        return text.strip("\n")
    parsing = Parsing(len(text))
    fenced, prose = find_blocks(text, parsing)
    found = _last_workflow(fenced) or _last_workflow(list(find_bare(prose, parsing)))
    return join_needed(found, fenced) if found else _bare_class(shown)


def _last_workflow(blocks: Sequence[Block]) -> Block | None:
    """The last block with a ``class Workflow``, Python or not: a later one means that no earlier one was meant. Stubs come last."""
    found = [block for block in blocks if WORKFLOW_CLASS.search(block.source)]
    return next((block for block in reversed(found) if not _is_stub(block)), found[-1] if found else None)


def _is_stub(block: Block) -> bool:
    classes = [node for node in (block.tree.body if block.tree else []) if isinstance(node, ast.ClassDef)]
    return any(node.name == "Workflow" for node in classes) and all(is_stub(node) for node in classes)


def _bare_class(text: str) -> str:
    """From the last ``class Workflow`` to the last line that looks like code."""
    match = list(WORKFLOW_CLASS.finditer(text))[-1]
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
