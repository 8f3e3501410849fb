"""Finding the number in an answer."""

import re
from decimal import Decimal
from fractions import Fraction

from workflow.text import cut_thoughts

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?!\w))?(?:\^-?\d{1,3}(?!\d))?"
_SIGN = r"[-+\u2212]?\s?[$\u20ac\u00a3]?\s?"
_OVER = r"(?:\s{0,9}/\s{0,9}\d+)?"
"""A bounded number of blanks: this may be tried at each place of a long run of them."""
_MIXED = r"\d{1,3}[ \u00a0\u202f]{1,2}\d{1,3}/\d{1,3}"
"""One and a half as ``1 1/2``."""
_GROUPS = r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?:,\d+)?(?![.,]?\d)"
"""Thousands apart by blanks, decimals after a comma; only where an answer is marked, since numbers may stand side by side."""
_BEFORE = r"(?<![\w.^])"
"""An exponent is no number of its own: ``5 cm^2``."""
_NUMBER = re.compile(rf"{_BEFORE}({_SIGN}(?:{_MIXED}|{_GROUPS}|{_DIGITS}){_OVER})(?!\d)")
_ANY = re.compile(rf"{_BEFORE}({_SIGN}(?:{_MIXED}|{_DIGITS}){_OVER})(?!\d)")
_ABOUT = (
    "not|based|correct|right|wrong|in|given|found|obtained|derived|consistent|verified|confirmed|reasonable|because|rounded|written|valid"
)
_MARK = re.compile(
    rf"####|\\boxed\s?\{{|<answer>|\banswer\b[*_]{{0,3}}\s{{0,3}}(?:(?:is|(?:would|will|should|must)\sbe)\b(?!\s(?:{_ABOUT})\b)|[:=\uff1a])"
    r"|^[#*_\s]{0,6}(?:final\s)?answer[*_]{0,3}[ \t]{0,3}$"
    r"|\u7b54\u6848\s?(?:[\u662f\u4e3a:\uff1a])|\br\u00e9ponse\s(?:est|:)|\brespuesta\s(?:es|:)|\bAntwort\s(?:ist|lautet|:)",
    re.IGNORECASE | re.MULTILINE,
)
"""What announces the answer, also as a heading, and in Chinese, French, Spanish and German; not what is said about an answer."""
_DIRECT = re.compile(
    r"(?:[^\w\s+\-\u2212$\u20ac\u00a3.]|\s|(?:approximately|about|around|roughly|exactly|just|only|simply|therefore|thus"
    r"|a\stotal\sof|equal\sto|text[a-z]{0,2}|math[a-z]{2}|option|[A-Za-z])\b){0,30}",
    re.IGNORECASE,
)
"""What may stand between a mark and its number."""
_GOES_ON = re.compile(r"\s?(?:[+\-\u2212*\u00d7x/\u00f7]|\\times|\\cdot|times|plus|minus)\s?[$\u20ac\u00a3]?\s?\d")
_SENTENCE_END = re.compile(r"(?<!\bi\.e)(?<!\be\.g)(?<!approx)(?<!\bMrs)(?<!\bM[rs])(?<!\bDr)(?<!\bSt)(?:[.;!](?=\s|$)|\u3002)")
_ASIDE = re.compile(r"\([^()]{0,400}(?:\)|$)")
_BOLD = re.compile(rf"\*\*(?=\s?{_SIGN}[\d.][^*\n:=]{{0,40}}\*\*(?!\s?:))(?!\d{{1,3}}[.)][\s*])")
_STRESSED = "\ue000"
"""Stands before a number in bold type: where a sentence has several, that is its answer."""
_FRAC = re.compile(r"\\[dtc]?frac\s?(?:\{([^{}]{1,40})\}\s?\{([^{}]{1,40})\}|(\d)\s?(\d))")
_POWER_OF_TEN = re.compile(r"(?<=\d)\s?(?:\\times|\\cdot|[\u00d7x*\u00b7])\s?10\s?\^\s?\{?([-\u2212]?\d{1,3})\}?(?!\d)")
_EXPONENT = re.compile(r"\^\{(-?\d{1,3})\}")
_SCALES = {"thousand": 3, "million": 6, "billion": 9}
_SCALED = re.compile(r"(?<=\d)[ \u00a0](thousand|million|billion)\b", re.IGNORECASE)
_LATEX = {"{,}": ",", "\\!": "", "\\,": "", "\\$": "$", "\\(": " ", "\\)": " ", "**": ""}
_VULGAR = str.maketrans(
    {"\u00bd": " 1/2", "\u2153": " 1/3", "\u2154": " 2/3", "\u00bc": " 1/4", "\u00be": " 3/4", "\u215b": " 1/8"}
    | {"\u00b2": "^2", "\u00b3": "^3"}
)
_ONES = """zero one two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen""".split()  # noqa: SIM905
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: number for number, word in enumerate(_ONES)} | {word: 10 * number for number, word in enumerate(_TENS, 2)}
_WORDS |= {f"{ten}-{one}": _WORDS[ten] + _WORDS[one] for ten in _TENS for one in _ONES[1:10]}
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)?", re.IGNORECASE)
MAX_CHARACTERS = 20_000
"""Only the end of a longer answer is read."""
MARKED_CHARACTERS = 400
"""How far behind its mark an answer is looked for."""
MAX_MARKS = 64
"""The last marks are tried."""
MAX_DIGITS = 200


def read_number(answer: str) -> Fraction | None:
    """The answer's number: what the last ``####``, ``\\boxed{}`` or "answer is" marks, else the last number; None where there is none.

    Thoughts are not read. Of a marked sentence the number that stands at once behind the mark counts, of an equation what it comes to,
    else the one in bold type, else the last one.
    """
    text = _plain(cut_thoughts(answer)[-MAX_CHARACTERS:])
    for mark in list(_MARK.finditer(text))[:-MAX_MARKS:-1]:
        value = _read_marked(text[mark.end() : mark.end() + MARKED_CHARACTERS], boxed=mark[0].endswith("{"))
        if value is not None:
            return value
    if _STRESSED in text:
        lines = (line for line in reversed(text.splitlines()) if _last_number(line, _ANY) is not None)
        if _STRESSED in (line := next(lines, "")):
            return _last_number(line, _NUMBER)
    return _last_number(text, _ANY)


def _plain(text: str) -> str:
    """Numbers of LaTeX and of prose in the one form in which they are looked for."""
    text = _FRAC.sub(lambda found: f" {found[1] or found[3]}/{found[2] or found[4]}", text).translate(_VULGAR)
    text = _POWER_OF_TEN.sub(lambda found: "e" + found[1].replace("\u2212", "-"), text)
    text = _SCALED.sub(lambda found: f"e{_SCALES[found[1].lower()]}", _EXPONENT.sub(r"^\1", text))
    text = _BOLD.sub(_STRESSED, text)
    for latex, plain in _LATEX.items():
        text = text.replace(latex, plain)
    return text


def _read_marked(text: str, *, boxed: bool) -> Fraction | None:
    cut = text.rstrip("0123456789.,") if len(text) == MARKED_CHARACTERS else text
    line = _inside(cut) if boxed else cut.lstrip(" \t\r\n*_:\uff1a").partition("\n")[0]
    sentence = _SENTENCE_END.split(_ASIDE.sub(" ", line), maxsplit=1)[0]
    left, equals, right = sentence.rpartition("=")
    if equals and as_number(left) is None and (value := _first_number(right)) is not None:
        return value
    begin = _DIRECT.match(line)
    found = _NUMBER.match(line, begin.end()) if begin else None
    if found and not _GOES_ON.match(line, found.end()) and (value := as_number(found[1])) is not None:
        return value
    for part in (sentence, line):
        if (value := _last_number(part, _NUMBER)) is not None:
            return value
    return _word_number(sentence)


def _inside(text: str) -> str:
    """The text up to the brace that closes what stands open before it."""
    depth = 1
    for index, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if not depth:
            return text[:index]
    return text


def _first_number(text: str) -> Fraction | None:
    return next((value for value in map(as_number, _NUMBER.findall(text)) if value is not None), None)


def _last_number(text: str, numbers: re.Pattern[str]) -> Fraction | None:
    """The number behind the last stress, else the last number."""
    _, stressed, rest = text.rpartition(_STRESSED)
    if stressed and (value := _first_number(rest)) is not None:
        return value
    return next((value for value in map(as_number, reversed(numbers.findall(text))) if value is not None), None)


def _word_number(text: str) -> Fraction | None:
    """The first number that is written out."""
    total = part = 0
    before = ""
    for word in map(str.lower, _WORD.findall(text)):
        if word in _WORDS:
            part += _WORDS[word]
        elif before and word == "hundred":
            part *= 100
        elif before and word in _SCALES:
            total, part = total + part * 10 ** _SCALES[word], 0
        elif before and not (word == "and" and before in ("hundred", *_SCALES)):
            break
        else:
            continue
        before = word
    return Fraction(total + part) if before else None


def as_number(text: str) -> Fraction | None:
    """A decimal, a fraction, a mixed number or a power; thousands separators and currency signs ignored; None where the text is none."""
    if re.fullmatch(rf"\s*{_SIGN}{_GROUPS}\s*", text):
        text = text.replace(",", ".")
    mixed = re.fullmatch(rf"\s*({_SIGN})(\d+)\s+(\d+)/(\d+)\s*", text)
    whole = int(mixed[2]) if mixed and int(mixed[3]) < int(mixed[4]) else 0
    text = f"{mixed[1]}{mixed[3]}/{mixed[4]}" if mixed else text
    plain = re.sub(r"[\s,$\u20ac\u00a3]", "", text).replace("\u2212", "-")
    if not re.search(r"\d", plain) or len(plain) > MAX_DIGITS:
        return None
    negative = plain.startswith("-")
    numerator, _, denominator = plain[plain[0] in "+-" :].partition("/")
    base, _, exponent = numerator.partition("^")
    try:
        power = int(exponent or "1")
        if power != 1 and ("e" in base.lower() or abs(power) * len(base) > 5 * MAX_DIGITS):
            return None
        value = whole + Fraction(Decimal(base)) ** power / Fraction(Decimal(denominator or "1"))
    except (ArithmeticError, ValueError):
        return None
    return -value if negative else value
