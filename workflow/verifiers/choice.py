"""Multiple choice: which option an answer chooses."""

import re
from collections.abc import Mapping

from workflow.problem import Problem
from workflow.verifiers.answer_text import TAGGED, read_end
from workflow.verifiers.verifier import Verifier

_OPEN = r"[\s*_(\[{$]{0,9}(?:\\(?:boxed|text|textbf|mathrm)\{\s?){0,2}\(?"
_CAPITAL = r"(?:([B-HJ])\b(?!')|([AI])\b(?!')(?!\s(?!(?:is|because|since|as|which)\b)[a-z]))"
"""Of the letters that are words, too, one that does not go on as a sentence."""
_SMALL = r"([a-j])(?=[ \t*_.)\]}$]{0,9}$)"
"""A small letter only at the end of its line."""
_WORDS = r"(?:[ \t](?:therefore|thus|hence|then|clearly|most|likely|probably|definitely|indeed|simply|option|choice|letter)\b,?){0,3}"
_VERB = r"(?:[ \t]\w{1,20}){0,6}?[ \t*_]{0,9}(?:\b(?:is|would be|must be|should be)\b[*_]{0,3}[ \t]?:?|[:=])"
_CHOSEN = re.compile(
    rf"(?:(?i:\banswer\b)(?:{_VERB}{_WORDS}|[ \t*_:]{{0,9}}$)|####|(?=\\boxed\{{)){_OPEN}(?:{_CAPITAL}|{_SMALL})", re.ASCII | re.MULTILINE
)
_NAMED = re.compile(rf"\b(?i:answer|option|choice)\b(?:\s(?:is|would be|must be)\b)?\s?:?{_OPEN}{_CAPITAL}", re.ASCII)
_LEADING = re.compile(rf"{_OPEN}([A-J])[*_\])}}$]{{0,9}}(?:[.):,]|\s?[-\u2013\u2014]\s|\s{{0,9}}\Z)", re.ASCII)
"""A letter at the beginning of a text, apart from what follows."""


class ChoiceVerifier(Verifier):
    """Multiple choice: the test is the letter of the right option, A to J."""

    form = "Reason as you need to, then end with a line `Answer: X`, where X is the letter of the right option."
    answer = "the final answer as a text that ends on the letter of the right option, for example `Answer: C`"

    def compare(self, solution: str, test: str) -> str | None:
        found = read_letter(solution)
        if found == test.strip().upper():
            return None
        return "the answer names no option" if found is None else "the option is not the right one"

    def controls(self, problem: Problem) -> Mapping[str, str]:
        letters = "ABCDEFGHIJ"
        listed = {"all letters": " ".join(letters), "all letters as answers": "\n".join(f"({letter})" for letter in letters)}
        return {"an empty answer": "", **listed}


def read_letter(text: str) -> str | None:
    """The option that an answer chooses: between ``<answer>`` tags, else the last that is marked as the answer, else the last "option X",
    else the letter that the last line begins with, where the one before begins with none."""
    end = read_end(text)
    tagged = TAGGED.findall(end)
    if tagged and (leading := _LEADING.match(tagged[-1])):
        return leading[1]
    for marks in (_CHOSEN, _NAMED):
        if found := ["".join(groups) for groups in marks.findall(end)]:
            return found[-1].upper()
    lines = [line for line in end.splitlines() if line.strip()]
    leading = _LEADING.match(lines[-1]) if lines else None
    is_listed = len(lines) > 1 and _LEADING.match(lines[-2]) is not None
    return leading[1] if leading and not is_listed else None
