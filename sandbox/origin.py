"""Whose answer a run returned: derived from what the worker said, or written by the workflow itself.

Asked on the trusted side, which has every reply of the worker and every output of a program that it wrote. An answer counts as the
workflow's own where

- nothing came from the worker: it was not asked, or no request got a reply;
- the workflow returns a constant, in one place, whatever the worker says;
- it is code of some length that stands whole in one text of the workflow's source, even where the worker was made to repeat it;
- it stood whole in a prompt, and by the replies until then the workflow wrote it (the next two points): the worker repeated it;
- texts of the source, taken together, hold most of it and more than the replies do: a solution in pieces, beside a call whose
  reply is ignored;
- it is code of some length whose statements share no passage with any reply: a solution in disguise (numbers, a text backwards).

What the query shows is nobody's, and neither are imports and the heads of functions. Everything else counts as derived, since what a
workflow did with a reply cannot be seen: formatting, voting, joining, choosing among short texts of its own, computing. So these are not
caught: a disguised solution beside a worker's solution that resembles it, a short answer that is returned in several places or by way of
variables, short code (a line or so) that the worker was made to repeat, a worker asked to undo a disguise or to change a detail.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from workflow.language.parse import MAX_SOURCE_BYTES, parse_tree
from workflow.problem import Problem
from workflow.program import Refusal, Workflow
from workflow.verifiers import find_verifier

MAX_REPLIES = 200_000
"""Characters of all replies together that are compared, the latest first; of all prompts, too."""
PASSAGE = 4
"""Tokens in a row that two texts share where one was taken from the other."""
LONG = 12
"""Tokens of code from which on it says where it comes from."""
IN_SOURCE = 0.5
"""Share of the answer's passages from which on it stands in the source."""
SHORT_ANSWER = 200
"""Characters up to which an answer that is no code is looked for as whole words alone."""
PURE = frozenset("str int float chr bytes repr round sum len abs min max pow range".split())  # noqa: SIM905
"""Functions that make a constant of constants."""
_TOKEN = re.compile(r"\w+|[^\w\s]")


Passage = tuple[str, ...]


class Sent(NamedTuple):
    """A request to the worker."""

    prompt: str
    replies_before: int
    """How many replies had come when it was made."""


def is_own_answer(answer: str, workflow: Workflow, problem: Problem, replies: Sequence[str], sent: Sequence[Sent] = ()) -> bool:
    """True where the workflow wrote the answer itself; where that cannot be told, False.

    Args:
        replies: what the worker said in the run, and what programs of its printed, in order.
        sent: what it was asked, in order.
    """
    said = _latest(replies)
    if not said or _returns_constant(workflow.source):
        return True
    literals = [*_literals(workflow.source), *_literals(workflow.prompts)]
    long = [text for text in literals if len(text) > LONG]
    asked = _latest([request.prompt for request in sent])
    try:
        verifier = find_verifier(problem.verifier)
        solution = verifier.read_solution(answer[-MAX_SOURCE_BYTES:], problem)
        if not verifier.is_code and len(solution) <= SHORT_ANSWER:
            return False
        read = {text: _statements(verifier.read_solution(text, problem)) for text in (*said, *asked, *long)}
    except Exception:  # somebody else's code; its fault is told where it judges
        return False
    tokens = _tokens(_statements(solution)) if verifier.is_code else _tokens(solution)
    passages, shown = _passages(tokens), _all_passages([problem.query, *problem.public_tests])

    def holds_all(text: str) -> bool:
        return passages <= _all_passages([text, read.get(text, "")])

    def is_own_after(replies: Sequence[str]) -> bool:
        heard = _all_passages([*replies, *map(_unescape, replies), *(read.get(reply, "") for reply in replies)])
        return _is_own_text(passages, literals, heard, is_long_code=verifier.is_code and len(tokens) >= LONG)

    if len(tokens) >= LONG and not passages <= shown:
        if verifier.is_code and any(map(holds_all, long)):
            return True
        kept = [request for request in sent if request.prompt in read]
        if any(holds_all(request.prompt) and is_own_after(_latest(replies[: request.replies_before])) for request in kept):
            return True
    return not any(solution in reply for reply in said) and is_own_after(said)


def _returns_constant(source: str) -> bool:
    """True where a workflow has one ``return``, of literals alone or of a name that is bound once, to some."""
    tree = parse_tree(source)
    if isinstance(tree, Refusal):
        return False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and node.name == "__call__"]
    returns = [node.value for call in calls for node in ast.walk(call) if isinstance(node, ast.Return)]
    if len(calls) != 1 or len(returns) != 1:
        return False
    value, bindings = returns[0], [name for node in ast.walk(tree) for name in _bound_in(node)]
    if isinstance(value, ast.Name) and bindings.count(value.id) == 1:
        assigned = [node for node in (*tree.body, *calls[0].body) if isinstance(node, ast.Assign)]
        value = next((node.value for node in assigned if value.id in _bound_in(node.targets[0])), value)
    return value is not None and all(node.id in PURE and node.id not in bindings for node in ast.walk(value) if isinstance(node, ast.Name))


def _bound_in(node: ast.AST) -> set[str]:
    """Names that a node itself may give a meaning; rather one too many."""
    stored = {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
    return stored | {name for field in ("name", "rest", "arg", "asname") if isinstance(name := getattr(node, field, None), str)}


def _is_own_text(passages: frozenset[Passage], literals: Sequence[str], heard: frozenset[Passage], *, is_long_code: bool) -> bool:
    if not passages:
        return False
    in_source = len(passages & _passages(_tokens("\n".join(literals)))) / len(passages)
    in_replies = len(passages & heard) / len(passages)
    return in_source > max(in_replies, IN_SOURCE) or (is_long_code and not in_replies)


def _latest(replies: Sequence[str]) -> list[str]:
    kept, left = [], MAX_REPLIES
    for reply in reversed(replies):
        if left > 0 and reply.strip():
            kept.append(reply[-left:])
            left -= len(reply)
    return kept


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text.replace('"', "'"))


def _passages(tokens: Sequence[str]) -> frozenset[Passage]:
    return frozenset(zip(*(tokens[start:] for start in range(PASSAGE)), strict=False))


def _all_passages(texts: Iterable[str]) -> frozenset[Passage]:
    return frozenset().union(*(_passages(_tokens(text)) for text in texts))


def _unescape(reply: str) -> str:
    """A reply in JSON as a workflow reads it."""
    return reply.replace("\\n", "\n").replace('\\"', '"') if "\\" in reply else ""


def _statements(code: str) -> str:
    """Code without comments, docstrings, imports and the heads of its functions, which the query dictates; what is no Python as it is."""
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
        elif not isinstance(node, ast.Import | ast.ImportFrom) and not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
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
