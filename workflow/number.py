"""Finding the number in an answer."""

import re
from decimal import Decimal
from fractions import Fraction

from workflow.text import cut_thoughts

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?!\w))?"
_SIGN = r"[-+\u2212]?\s?[$\u20ac\u00a3]?\s?"
_OVER = r"(?:\s{0,9}/\s{0,9}\d+)?"
"""A bounded number of blanks: this may be tried at each place of a long run of them."""
_GROUPS = r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?:,\d+)?(?![.,]?\d)"
"""Thousands apart by blanks, decimals after a comma; only where an answer is marked, since numbers may stand side by side."""
_NUMBER = re.compile(rf"(?<![\w.])({_SIGN}(?:{_GROUPS}|{_DIGITS}){_OVER})(?!\d)")
_ANY = re.compile(rf"(?<![\w.])({_SIGN}{_DIGITS}{_OVER})(?!\d)")
_MARK = re.compile(
    r"####|\\boxed\s?\{|\banswer\b[*_]{0,3}\s{0,3}(?:is\b|[:=\uff1a])"
    r"|\u7b54\u6848\s?(?:[\u662f\u4e3a:\uff1a])|\br\u00e9ponse\s(?:est|:)|\brespuesta\s(?:es|:)|\bAntwort\s(?:ist|lautet|:)",
    re.IGNORECASE,
)
"""What announces the answer; also in Chinese, French, Spanish and German."""
_FRAC = re.compile(r"\\[dt]?frac\s?\{([^{}]{1,40})\}\s?\{([^{}]{1,40})\}")
_LATEX = {"{,}": ",", "\\!": "", "\\,": "", "\\$": "$", "\\(": " ", "\\)": " ", "**": ""}
_VULGAR = str.maketrans({"\u00bd": "1/2", "\u2153": "1/3", "\u2154": "2/3", "\u00bc": "1/4", "\u00be": "3/4", "\u215b": "1/8"})
_ONES = """zero one two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen""".split()  # noqa: SIM905
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: number for number, word in enumerate(_ONES)} | {word: 10 * number for number, word in enumerate(_TENS, 2)}
_WORDS |= {f"{ten}-{one}": _WORDS[ten] + _WORDS[one] for ten in _TENS for one in _ONES[1:10]}
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)?", re.IGNORECASE)
MAX_CHARACTERS = 20_000
"""Only the end of a longer answer is read."""
MARKED_CHARACTERS = 200
"""How far behind its mark an answer is looked for."""
MAX_MARKS = 64
"""The last marks are tried."""
MAX_DIGITS = 200


def read_number(answer: str) -> Fraction | None:
    """The answer's number: what the last ``####``, ``\\boxed{}`` or "answer is" marks, else the last number; None where there is none.

    Thoughts are not read. Behind a mark the first number of the line counts, of an equation what it comes to.
    """
    text = cut_thoughts(answer)[-MAX_CHARACTERS:]
    text = _FRAC.sub(r"\1/\2", text).translate(_VULGAR)
    for latex, plain in _LATEX.items():
        text = text.replace(latex, plain)
    for mark in list(_MARK.finditer(text))[:-MAX_MARKS:-1]:
        value = _read_marked(text[mark.end() : mark.end() + MARKED_CHARACTERS], boxed=mark[0].endswith("{"))
        if value is not None:
            return value
    return next((value for value in map(as_number, reversed(_ANY.findall(text))) if value is not None), None)


def _read_marked(text: str, *, boxed: bool) -> Fraction | None:
    line = text.lstrip(" \t\r\n*_:\uff1a").partition("}" if boxed else "\n")[0]
    sentence = re.split(r"[.;](?:\s|$)|\(", line, maxsplit=1)[0] or line
    left, equals, right = sentence.rpartition("=")
    if equals and as_number(left) is None and (value := _first_number(right)) is not None:
        return value
    value = _first_number(sentence)
    value = _first_number(line) if value is None else value
    return _word_number(sentence) if value is None else value


def _first_number(text: str) -> Fraction | None:
    return next((value for value in map(as_number, _NUMBER.findall(text)) if value is not None), None)


def _word_number(text: str) -> Fraction | None:
    """The first number below 100 that is written out."""
    return next((Fraction(_WORDS[word]) for word in map(str.lower, _WORD.findall(text)) if word in _WORDS), None)


def as_number(text: str) -> Fraction | None:
    """A decimal or fraction, thousands separators and currency signs ignored; None where the text is none."""
    if re.fullmatch(rf"\s*{_SIGN}{_GROUPS}\s*", text):
        text = text.replace(",", ".")
    plain = re.sub(r"[\s,$\u20ac\u00a3]", "", text).replace("\u2212", "-")
    if not re.search(r"\d", plain) or len(plain) > MAX_DIGITS:
        return None
    numerator, _, denominator = plain.partition("/")
    try:
        return Fraction(Decimal(numerator)) / Fraction(Decimal(denominator or "1"))
    except (ArithmeticError, ValueError):
        return None
