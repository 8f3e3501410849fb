"""Choosing among candidate solutions (self-consistency, Wang et al. 2023, in AFlow's form)."""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from workflow.operators.operator import Operator
from workflow.text import cut_thoughts

LETTERS = string.ascii_uppercase

_LETTER = r"[\s:\uff1a*(`\"'{]{0,6}([A-Z])(?![\w'])"
_CHOSEN = re.compile(
    r"(?:\b(?i:answer|choice|choose|pick|select|prefer|letter)\b(?:\s(?i:is|the|candidate|option|solution)\b){0,3}"
    rf"|\b(?i:is)\b|[:\uff1a\u662f\u4e3a\u62e9\u9009]){_LETTER}"
    r"|(?<!\w)([A-Z])\s(?i:is|seems|looks)\s(?i:the\s)?(?i:right|correct|best|better|answer|winner|choice|most\sconsistent)\b"
)
"""Words that choose; \u9009\u62e9 is Chinese for it."""
_CONCLUDED = re.compile(rf"\b(?i:so|hence|thus|therefore|but|overall)\b,?{_LETTER}")
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

    Understood are a letter alone, "Answer: B", "B is best" or the like (the last one counts), a conclusion ("so B"), the candidate named
    last, and running text with just one of the letters. Thoughts are not read.
    """
    reply = cut_thoughts(reply)[-MAX_CHARACTERS:]
    valid = set(LETTERS[:candidates])
    bare = re.sub(r"[^A-Za-z]", "", reply).upper()
    lines = [re.sub(r"[^A-Za-z]", "", line).upper() for line in reply.strip().splitlines()[-1:]]
    for text in (bare, *lines):
        if text in valid:
            return LETTERS.index(text)
    for pattern in (_CHOSEN, _SMALL, _CONCLUDED, _NAMED):
        named = [letter for found in pattern.finditer(reply) for letter in found.groups("") if letter.upper() in valid]
        if named:
            return LETTERS.index(named[-1].upper())
    alone = set(_ALONE.findall(reply)) & valid
    return LETTERS.index(alone.pop()) if len(alone) == 1 else None
