"""Answers of one or several spans, as DROP's own evaluator grades them (Dua et al. 2019, arXiv 1903.00161; ``drop_eval.py``)."""

import heapq
import re
from collections.abc import Iterator, Sequence

from workflow.verifiers.answer_text import ARTICLES, PUNCTUATION, F1Verifier, word_f1

_SEPARATORS = (r"[\n;]", r"[\n;]|,(?!\d)", r"[\n;]|,(?!\d)|\band\b|&")
"""What may stand between spans; the later ones may stand within a span, too."""
MAX_PIECES = 32
"""Pieces of an answer that are aligned with spans; all of them count in its F1."""
MAX_STATES = 256
"""Alignments that are gone on with: all of up to 8 spans."""


class DropVerifier(F1Verifier):
    """F1 of spans: a number must be right, and each of several spans counts; all of them, and no other, pass."""

    form = (
        "Reason as you need to, then give the final answer alone, in as few words as possible, between <answer> and </answer>; "
        "several answers one a line."
    )

    def matches(self, solution: str, accepted: Sequence[str]) -> bool:
        expected = sorted(map(_words, accepted))
        return any(sorted(map(_words, pieces)) == expected for pieces in _split(solution, len(accepted)))

    def grade(self, solution: str, accepted: Sequence[str]) -> float:
        expected = list(map(_words, accepted))
        return max(_aligned_f1(list(map(_words, pieces)), expected) for pieces in _split(solution, len(accepted)))


def _split(text: str, spans: int) -> Iterator[list[str]]:
    """The pieces of an answer, in each way in which it may name several spans; one expected span is never split."""
    for separators in _SEPARATORS if spans > 1 else ():
        yield [piece for piece in re.split(separators, text) if piece.strip(" \t.*-")] or [text]
    if spans < 2:
        yield [text]


def _aligned_f1(found: Sequence[list[str]], expected: Sequence[list[str]]) -> float:
    """Mean F1 of the best alignment, one piece to one span; a piece or span without partner counts 0."""
    rows = [row for piece in found if any(row := [_span_f1(piece, span) for span in expected])]
    best = {0: 0.0}  # spans that have a partner, as bits -> their best F1 together
    for row in rows[:MAX_PIECES]:
        reached = dict(best)
        for taken, total in best.items():
            for bit, f1 in ((1 << place, f1) for place, f1 in enumerate(row) if f1):
                if not taken & bit:
                    reached[taken | bit] = max(reached.get(taken | bit, 0.0), total + f1)
        best = dict(heapq.nlargest(MAX_STATES, reached.items(), key=lambda state: state[1]))
    return max(best.values()) / max(len(found), len(expected))


def _span_f1(found: Sequence[str], expected: Sequence[str]) -> float:
    numbers = {word for word in expected if _as_float(word) is not None}
    if numbers and not numbers & set(found):
        return 0.0
    return word_f1(sorted(set(found)), sorted(set(expected)))


def _words(text: str) -> list[str]:
    words = re.split(r"[ \-\n]", text)
    plain = [word.lower() if _as_float(word) is not None else word.lower().translate(PUNCTUATION) for word in words]
    return [str(_as_float(word)) if _as_float(word) is not None else word for word in ARTICLES.sub(" ", " ".join(plain)).split()]


def _as_float(word: str) -> float | None:
    try:
        return float(word) if len(word) < 40 else None
    except ValueError:
        return None
