"""Choosing among candidate solutions (self-consistency, Wang et al. 2023, in AFlow's form)."""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from workflow.operators.operator import Operator
from workflow.text import cut_thoughts

LETTERS = string.ascii_uppercase

_LETTER = r"[\s:\uff1a*(\[`\"'{]{0,6}([A-Z])(?![\w'])"
_SAYS = r"(?:answer|choice|choose|pick|select|prefer|letter|winner|verdict|decision|selection|selected|chosen)"
_LED = re.compile(
    r"[\s*_#>(\[`\"']{0,6}(?:(?i:candidate|option|solution)\s)?([A-Z])[)\]*_`\"']{0,4}"
    r"(?:[.):,]?[*_]{0,2}$|[*_]{0,2}\s?(?:[.):\u2014\u2013]|-\s))"
)
"""A line that begins with a letter and something that ends it."""
_IN_LIST = re.compile(r"\b([A-Z])[:)]")
_BECAUSE = re.compile(r"[\s*_(`\"']{0,6}([A-Z])[)*_`\"']{0,4},?\s(?:because|since|as|for|due)\b")
_STATED = re.compile(
    rf"(?i:<answer>|\\boxed\{{|\b{_SAYS}\b[*_`\"']{{0,3}}\s?(?:is\b|[:=\uff1a]))[*_`\"']{{0,3}}\s?"
    rf"(?i:\\text[a-z]{{0,2}}\{{|(?:the\s)?(?:candidate|option|solution)\b)?{_LETTER}"
)
"""The answer after its name."""
_CHOSEN = re.compile(
    rf"(?:\b(?i:{_SAYS})\b(?:\s(?i:is|the|candidate|option|solution)\b){{0,3}}"
    rf"|\b(?i:is)\b(?:\s(?i:candidate|option|solution)\b)?|[\u662f\u4e3a\u62e9\u9009]){_LETTER}"
    r"|(?<!\w)([A-Z])\s(?i:is|seems|looks)\s(?i:the\s)?(?i:right|correct|best|better|answer|winner|choice|most\sconsistent)\b"
)
"""Words that choose; \u9009\u62e9 is Chinese for it."""
_CONCLUDED = re.compile(rf"\b(?i:so|hence|thus|therefore|but|overall)\b,?{_LETTER}")
_COLON = re.compile(rf"[:\uff1a]{_LETTER}")
_NAMED = re.compile(rf"\b(?i:candidate|option|solution)\b{_LETTER}")
_SMALL = re.compile(r"\b(?:answer|choice)\b(?:\sis)?[\s:*(`\"']{0,6}([a-z])[*)`\"'.]{0,6}$", re.IGNORECASE | re.MULTILINE)
MAX_CHARACTERS = 20_000
"""Only the end of a longer reply is read."""
_ALONE = re.compile(r"\b([A-Z])\b(?!')")


class Ensemble(Operator):
    """Compares candidate solutions and returns the one that agrees best with the others and the problem.

    Equal candidates need no comparison: they are returned without a worker call. Where the worker's reply names no
    candidate, the most common one is returned, the first of equally common ones.
    """

    name = "ensemble"
    system = "You are a careful judge. You compare candidate solutions and choose the one that most of them agree with in behaviour."
    prompt = """<problem>
{problem}
</problem>
<candidates>
{candidates}
</candidates>
Several candidates are shown, each with a letter. Choose the most consistent one: what it does is what most candidates do and \
what the problem asks. Answer with its letter alone."""

    async def __call__(self, problem: str, solutions: list[str]) -> str:
        if len(set(solutions)) == 1:
            return solutions[0]
        shown = (f'<candidate letter="{letter}">\n{text}\n</candidate>' for letter, text in zip(LETTERS, solutions, strict=False))
        choice = read_choice(await self._ask(problem=problem, candidates="\n".join(shown)), len(solutions))
        if choice is None:
            return Counter(solutions).most_common(1)[0][0]
        return solutions[choice]

    @classmethod
    def bind(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        bound = super().bind(args, kwargs)
        if not 1 <= len(bound["solutions"]) <= len(LETTERS):
            raise TypeError(f"{cls.signature()}: solutions must hold 1 to {len(LETTERS)} strings, not {len(bound['solutions'])}.")
        return bound


def read_choice(reply: str, candidates: int) -> int | None:
    """Position of the candidate that a reply names; None where it names none.

    Understood are a letter alone on the last line, "Answer: B" (the last one), a letter that begins the first line and no other, "B is
    best" or the like (the last one counts), a conclusion ("so B"), the candidate named last, and running text with just one of the
    letters. Thoughts are not read.
    """
    reply = cut_thoughts(reply)[-MAX_CHARACTERS:].strip()
    valid = set(LETTERS[:candidates])
    lines = reply.splitlines()
    for text in (reply, *lines[-1:]):
        if (bare := re.sub(r"[^A-Za-z]", "", text).upper()) in valid:
            return LETTERS.index(bare)
    if stated := [found[1] for found in _STATED.finditer(reply) if found[1] in valid]:
        return LETTERS.index(stated[-1])
    if (letter := _leading(lines)) in valid:
        return LETTERS.index(letter)
    for pattern in (_CHOSEN, _SMALL, _CONCLUDED, _COLON, _NAMED):
        named = [letter for found in pattern.finditer(reply) for letter in found.groups("") if letter.upper() in valid]
        if named:
            return LETTERS.index(named[-1].upper())
    alone = set(_ALONE.findall(reply)) & valid
    return LETTERS.index(alone.pop()) if len(alone) == 1 else None


def _leading(lines: Sequence[str]) -> str:
    """The letter that the first line begins with; empty where the reply goes through several candidates in that way."""
    if not lines:
        return ""
    if because := _BECAUSE.match(lines[0]):
        return because[1]
    led = [match[1] if match else "" for match in map(_LED.match, lines)]
    several = len({*led, *_IN_LIST.findall(lines[0])} - {""}) > 1
    return "" if several else led[0]
