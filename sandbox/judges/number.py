"""Exact numeric answers, compared in the trusted parent: the last number of the answer against the expected one."""

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

_NUMBER = r"[-+\u2212]?\s?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?"
_MARKED = re.compile(rf"(?:####|\\boxed\{{|\banswer\s*(?:is|:|=)\s*\**)\s*({_NUMBER}(?:\s*/\s*\d+)?)", re.IGNORECASE)
_ANY = re.compile(rf"(?<![\w.])({_NUMBER}(?:\s*/\s*\d+)?)(?![\d])")
MAX_CHARACTERS = 20_000
"""Only the end of a longer answer is read."""
MAX_DIGITS = 200


def examine(answer: str, tests: Sequence[str]) -> list[str | None]:
    """What is wrong with an answer, expected number by expected number; None where it is exactly that number."""
    found = read_number(answer)
    results: list[str | None] = []
    for test in tests:
        expected = _value(test)
        if expected is None:
            raise ValueError(f"{test!r} is no number: correct the problem's tests.")
        results.append(None if found == expected else "the answer holds no number" if found is None else "the number is not the right one")
    return results


def read_number(answer: str) -> Fraction | None:
    """The answer's number: what the last ``####``, ``\\boxed{}`` or "answer is" marks, else the last number; None where there is none."""
    text = answer[-MAX_CHARACTERS:]
    for pattern in (_MARKED, _ANY):
        values = [value for value in map(_value, pattern.findall(text)) if value is not None]
        if values:
            return values[-1]
    return None


def _value(text: str) -> Fraction | None:
    """A decimal or fraction, thousands separators and currency signs ignored."""
    plain = re.sub(r"[\s,$€£]", "", text).replace("\u2212", "-")
    if not re.search(r"\d", plain) or len(plain) > MAX_DIGITS:
        return None
    numerator, _, denominator = plain.partition("/")
    try:
        return Fraction(Decimal(numerator)) / Fraction(Decimal(denominator or "1"))
    except (ArithmeticError, ValueError):
        return None
