"""Whose answer a run returned: derived from what the worker said, or written by the workflow itself.

Asked on the trusted side, which has every reply of the worker and every output of a program that it wrote. An answer counts as the
workflow's own where

- nothing came from the worker: it was not asked, or no request got a reply;
- it is code that a text in the workflow's source defines as it stands, even where the worker was made to repeat it;
- texts of the source, taken together, hold most of it and more than the replies do: a solution in pieces, beside a call whose
  reply is ignored;
- it is code of some length whose statements share no passage with any reply: a solution in disguise (numbers, a text backwards);
- it is a number that is a literal of the source, or a word that is one in a workflow without branches, and no reply holds it.

Everything else counts as derived, since what a workflow did with a reply cannot be seen: formatting, voting, joining, computing from
several replies. So these are not caught: a disguised solution beside a worker's solution that resembles it, a short answer that some
reply mentions, an answer that is computed from literals (``str(6 * 7)``), a word under a condition, a worker asked to undo the disguise.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from workflow.language.parse import MAX_SOURCE_BYTES, parse_tree
from workflow.number import as_number, read_number
from workflow.problem import Problem
from workflow.program import Refusal, Workflow
from workflow.verifiers import find_verifier

MAX_REPLIES = 200_000
"""Characters of all replies together that are compared, the latest first."""
PASSAGE = 4
"""Tokens in a row that two texts share where one was taken from the other."""
LONG = 12
"""Tokens of code from which on it says where it comes from."""
IN_SOURCE = 0.5
"""Share of the answer's passages from which on it stands in the source."""
SHORT_ANSWER = 200
"""Characters up to which an answer that is no code is looked for as a whole."""
_TOKEN = re.compile(r"\w+|[^\w\s]")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


def is_own_answer(answer: str, workflow: Workflow, problem: Problem, replies: Sequence[str]) -> bool:
    """True where the workflow wrote the answer itself; where that cannot be told, False.

    Args:
        replies: what the worker said in the run, and what programs of its printed, in order.
    """
    said = _latest(replies)
    if not said:
        return True
    try:
        verifier = find_verifier(problem.verifier)
        solution = verifier.read_solution(answer[-MAX_SOURCE_BYTES:], problem)
        read = [verifier.read_solution(reply, problem) for reply in said]
    except Exception:  # somebody else's code; its fault is told where it judges
        return False
    literals = [*_literals(workflow.source), *_literals(workflow.prompts)]
    if verifier.is_code:
        body = _tokens(_statements(solution))
        if _is_defined(body, problem.entry_point, literals):
            return True
        if any(solution in reply for reply in said):
            return False
        return _is_own_text(body, literals, [*said, *map(_unescape, said), *map(_statements, read)], is_code=True)
    if any(map(re.compile(rf"(?<!\w){re.escape(solution)}(?!\w)", re.IGNORECASE).search, said)):
        return False
    return _is_own_word(solution, workflow, literals, said) or (
        len(solution) > SHORT_ANSWER and _is_own_text(_tokens(solution), literals, said, is_code=False)
    )


def _is_defined(body: Sequence[str], entry_point: str, literals: Sequence[str]) -> bool:
    """True where a text that defines the entry point holds the statements ``body``."""
    if len(body) < PASSAGE or not entry_point:
        return False
    head, wanted = re.compile(rf"\bdef\s+{re.escape(entry_point)}\b"), " ".join(body)
    for text in literals:
        if (found := head.search(text)) and any(wanted in " ".join(_tokens(each)) for each in (text, _statements(text[found.start() :]))):
            return True
    return False


def _is_own_text(tokens: Sequence[str], literals: Sequence[str], replies: Sequence[str], *, is_code: bool) -> bool:
    passages = _passages(tokens)
    if not passages:
        return False
    in_source = len(passages & _passages(_tokens("\n".join(literals)))) / len(passages)
    in_replies = len(passages & frozenset().union(*(_passages(_tokens(reply)) for reply in replies))) / len(passages)
    return in_source > max(in_replies, IN_SOURCE) or (is_code and not in_replies and len(tokens) >= LONG)


def _is_own_word(solution: str, workflow: Workflow, literals: Sequence[str], replies: Sequence[str]) -> bool:
    number = read_number(solution)
    if number is not None:
        return number in _numbers(literals) and number not in _numbers(replies)
    return bool(solution) and not workflow.branches and solution in literals


def _latest(replies: Sequence[str]) -> list[str]:
    kept, left = [], MAX_REPLIES
    for reply in reversed(replies):
        if left > 0 and reply.strip():
            kept.append(reply[-left:])
            left -= len(reply)
    return kept


def _numbers(texts: Sequence[str]) -> set[Fraction | None]:
    return {as_number(found) for text in texts for found in _NUMBER.findall(text)}


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text.replace('"', "'"))


def _passages(tokens: Sequence[str]) -> frozenset[tuple[str, ...]]:
    return frozenset(zip(*(tokens[start:] for start in range(PASSAGE)), strict=False))


def _unescape(reply: str) -> str:
    """A reply in JSON as a workflow reads it."""
    return reply.replace("\\n", "\n").replace('\\"', '"') if "\\" in reply else ""


def _statements(code: str) -> str:
    """Code without comments, docstrings and the heads of its functions, which the query dictates; what is no Python as it is."""
    tree = parse_tree(code)
    if isinstance(tree, Refusal):
        return code
    try:
        return "\n".join(map(ast.unparse, _bodies(tree)))
    except (RecursionError, MemoryError, ValueError):
        return code


def _bodies(tree: ast.Module) -> Iterator[ast.stmt]:
    waiting: list[ast.stmt] = list(reversed(tree.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            waiting += reversed(node.body)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield node


def _literals(source: str) -> Iterator[str]:
    """Texts and numbers of a source; texts that stand in one expression also together. Numbers that count (``range(3)``) are left out."""
    tree = parse_tree(source)
    waiting: list[ast.AST] = [] if isinstance(tree, Refusal) else [tree]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Call(func=ast.Name(id="range")) | ast.Compare():
                continue
            case ast.Subscript(value=value):
                waiting.append(value)
                continue
            case ast.Constant(value=str(text)):
                yield text
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                yield str(number)
            case ast.BinOp() | ast.JoinedStr() | ast.List() | ast.Tuple():
                parts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
                yield from (("".join(parts), "\n".join(parts)) if len(parts) > 1 else ())
        waiting += ast.iter_child_nodes(node)
