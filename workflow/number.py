"""Finding the number in an answer."""

import re
from decimal import Decimal
from fractions import Fraction

_NUMBER = r"[-+\u2212]?\s?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?"
_FRACTION = rf"({_NUMBER}(?:\s{{0,9}}/\s{{0,9}}\d+)?)"
"""A bounded number of blanks: this may be tried at each place of a long run of them."""
_MARKED = re.compile(rf"(?:####|\\boxed\{{|\banswer\s*(?:is|:|=)\s*\**)\s*{_FRACTION}", re.IGNORECASE)
_ANY = re.compile(rf"(?<![\w.]){_FRACTION}(?![\d])")
MAX_CHARACTERS = 20_000
"""Only the end of a longer answer is read."""
MAX_DIGITS = 200


def read_number(answer: str) -> Fraction | None:
    """The answer's number: what the last ``####``, ``\\boxed{}`` or "answer is" marks, else the last number; None where there is none."""
    text = answer[-MAX_CHARACTERS:]
    for pattern in (_MARKED, _ANY):
        values = [value for value in map(as_number, pattern.findall(text)) if value is not None]
        if values:
            return values[-1]
    return None


def as_number(text: str) -> Fraction | None:
    """A decimal or fraction, thousands separators and currency signs ignored; None where the text is none."""
    plain = re.sub(r"[\s,$€£]", "", text).replace("\u2212", "-")
    if not re.search(r"\d", plain) or len(plain) > MAX_DIGITS:
        return None
    numerator, _, denominator = plain.partition("/")
    try:
        return Fraction(Decimal(numerator)) / Fraction(Decimal(denominator or "1"))
    except (ArithmeticError, ValueError):
        return None
