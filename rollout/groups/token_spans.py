"""Which tokens of a completion wrote given lines of its workflow. Ids are never tokenised again: prefixes of them are decoded."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What a decoder writes for the first bytes of a character whose last ones are still to come."""


class WrittenTokens:
    """The tokens of one completion by what they wrote."""

    def __init__(self, token_ids: Sequence[int], text: str, decode: Callable[[Sequence[int]], str]) -> None:
        """
        Args:
            text: the completion's.
            decode: token ids -> their text without special tokens.
        """
        self._ids = token_ids
        self._text = text
        self._decode = decode
        self._spells_text = decode(token_ids) == text
        self._written = {len(token_ids): len(text)}

    def span(self, source: str, lines: tuple[int, int]) -> tuple[int, int] | None:
        """(first token, token after the last) of those that wrote any character of some lines, other than the newline before them.

        Args:
            source: the workflow's, as the parser found it in the text.
            lines: first and last line of the source, from 1.

        Returns:
            None where the tokens decode to another text, or the source does not stand in the text as it is.
        """
        found = find_lines(self._text, source, lines)
        if found is None or not self._spells_text:
            return None
        counts = range(len(self._ids) + 1)
        last_before = bisect_right(counts, found[0], key=self._characters) - 1
        first = bisect_left(counts, self._characters(last_before), key=self._characters)  # a character may take several tokens
        return first, bisect_left(counts, found[1], key=self._characters)

    def _characters(self, count: int) -> int:
        """Whole characters that the first ``count`` tokens wrote."""
        if count not in self._written:
            self._written[count] = len(self._decode(self._ids[:count]).rstrip(UNFINISHED))
        return self._written[count]


def find_lines(text: str, source: str, lines: tuple[int, int]) -> tuple[int, int] | None:
    """The characters of ``text`` [begin, end) that are these lines of the source; None where the source does not stand there as it is.

    It stands there line by line, perhaps indented. Where it does so more than once, as in thoughts that draft it, the last place counts, as
    for the parser.
    """
    found, wanted = text.split("\n"), [line.strip() for line in source.split("\n")]
    stripped = [line.strip() for line in found]
    starts = (start for start in range(len(found) - len(wanted), -1, -1) if stripped[start : start + len(wanted)] == wanted)
    start = next(starts, None)
    if start is None:
        return None
    first, last = start + lines[0] - 1, start + lines[1] - 1
    begin = sum(len(line) + 1 for line in found[:first])
    return begin, begin + sum(len(line) + 1 for line in found[first : last + 1]) - 1
