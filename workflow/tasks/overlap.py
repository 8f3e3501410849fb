"""What makes two rows the same problem, and the guard that no problem is both trained on and held out.

Published sets come in several editions (HumanEval and HumanEval+, MBPP and its sanitized rows), and files are put together by hand:
so ids are compared without regard to case, separators and a set's plus sign, texts without regard to case and white space and to the code
that stands around their words; and a text may not stand as a whole within another one, such as a prompt around it.
"""

import ast
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from workflow.problem import Problem

EDITIONS = frozenset({"sanitized", "plus", "full"})
"""Words of an id that tell an edition of a set, not another problem."""
REPEATING = frozenset({"humaneval", "mbpp", "gsm8k", "bigcodebench"})
"""Published sets, whose own rows repeat each other here and there (MBPP/248 and MBPP/704): no fault of who uses them."""
RUN = 8
"""Words and signs of a text, at the least, that is looked for within others."""
SIGNATURE = re.compile(r"^\s*def \w+\(.*\).*:\s*$", re.MULTILINE)
"""A line that holds the signature of a function and nothing else."""
NAMED = 3
"""Examples that a message names."""


def id_key(problem_id: str) -> str:
    """Equal for one problem's ids in all editions of its set: ``Mbpp/2``, ``mbpp+/2``, ``mbpp_sanitized/2`` and ``MBPP/2``."""
    words = re.findall(r"[^\W_]+[+#]*", problem_id.casefold())
    plain = [word.rstrip("+") if word.rstrip("+") in REPEATING else word for word in words]
    return "/".join(word for word in plain if word not in EDITIONS)


def text_key(query: str) -> str:
    """Equal for texts that differ in case, white space or spelling of letters alone, or in the signature and imports around their words."""
    return _normalize(_words(query))


@lru_cache(maxsize=1 << 14)
def _normalize(text: str) -> str:
    """Its words and signs, one blank between them."""
    return " ".join(re.findall(r"\w+|[^\w\s]", unicodedata.normalize("NFKC", text).casefold()))


def _words(query: str) -> str:
    """A query without code around it: the docstring of its last function, or the text without lines that hold a signature alone."""
    if "def " not in query:
        return query
    try:
        functions = [node for node in ast.parse(query).body if isinstance(node, ast.FunctionDef)]
        words = _docstring(functions[-1], query) if functions else ""
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        words = SIGNATURE.sub("", query)
    return words if words and words.strip() else query


def _docstring(function: ast.FunctionDef, source: str) -> str:
    """As it is written, without its quotation marks; empty where there is none."""
    if ast.get_docstring(function) is None:
        return ""
    return (ast.get_source_segment(source, function.body[0]) or "").lstrip("rRuU").strip("\"'")


def find_shared(some: Iterable[Problem], others: Sequence[Problem]) -> list[tuple[Problem, Problem]]:
    """Pairs of a problem of ``some`` and the one of ``others`` that is the same by id or by text, or whose text is part of the other's."""
    some = tuple(some)
    known = {text_key(problem.query): problem for problem in others} | {id_key(problem.id): problem for problem in others}
    parts, wholes = _find_parts(some, others), _find_parts(others, some)
    related = {whole.id: part for whole, part in parts} | {part.id: whole for whole, part in wholes}
    pairs = ((one, known.get(id_key(one.id)) or known.get(text_key(one.query)) or related.get(one.id)) for one in some)
    return [(problem, twin) for problem, twin in pairs if twin is not None]


def _find_parts(wholes: Iterable[Problem], parts: Iterable[Problem]) -> Iterator[tuple[Problem, Problem]]:
    """A problem of ``wholes`` and one of ``parts`` whose words stand in a row in its text; found by the words that they end with."""
    ending: dict[tuple[str, ...], list[tuple[list[str], Problem]]] = {}
    for part in parts:
        words = text_key(part.query).split()
        if len(words) >= RUN:
            ending.setdefault(tuple(words[-RUN:]), []).append((words, part))
    last = {words[-1] for words in ending}
    for whole in wholes:
        words = _normalize(whole.query).split()
        for end in (place for place, word in enumerate(words, 1) if word in last and place >= RUN):
            for run, part in ending.get(tuple(words[end - RUN : end]), ()):
                if len(run) <= end and words[end - len(run) : end] == run:
                    yield whole, part


def without_repeats(problems: Iterable[Problem], held_out: Sequence[Problem]) -> tuple[Problem, ...]:
    """The problems without those that repeat a held-out one of the same published set under another number."""
    problems = tuple(problems)
    repeated = {problem.id for problem, twin in find_shared(problems, held_out) if _is_of_one_set(id_key(problem.id), id_key(twin.id))}
    return tuple(problem for problem in problems if problem.id not in repeated)


def _is_of_one_set(one: str, other: str) -> bool:
    name = one.partition("/")[0]
    return one != other and name == other.partition("/")[0] and name in REPEATING


def refuse_overlap(train: Sequence[Problem], validation: Sequence[Problem], test: Sequence[Problem], *, place: str) -> None:
    """Raises ValueError where two of the parts share a problem: what a run reports would be what it has learnt by heart.

    Args:
        place: where the problems come from, for the message.
    """
    for one, some, other, others in (
        ("training", train, "test", test),
        ("training", train, "validation", validation),
        ("validation", validation, "test", test),
    ):
        if pairs := find_shared(some, others):
            named = ", ".join(problem.id if problem.id == twin.id else f"{problem.id} and {twin.id}" for problem, twin in pairs[:NAMED])
            more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
            raise ValueError(
                f"{len(pairs)} of {len(some)} {one} problems of {place} are {other} problems, too, by id or by text ({named}{more}): "
                "take one of each out, so that no result is reported on what was trained."
            )
