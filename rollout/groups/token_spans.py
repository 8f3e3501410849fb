"""Which tokens of a completion wrote given lines of its workflow. Ids are never tokenised again: they are decoded one after another."""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
"""Token ids -> their text without special tokens."""
UNFINISHED = "\ufffd"
"""What a decoder writes for the first bytes of a character whose last ones are still to come."""


def token_span(text: str, source: str, lines: tuple[int, int], places: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """(first token, token after the last) of those that wrote any character of ``lines``, other than the newline before them.

    The source stands in the text line by line, perhaps indented. Where it stands more than once, as in thoughts that draft it, the last
    place counts, as for the parser.

    Args:
        text: the completion's.
        source: the workflow's, as the parser found it in ``text``.
        lines: first and last line of the source, from 1.
        places: of each token, from ``token_places``.

    Returns:
        None where the source does not stand in the text as it is, or no token wrote the lines.
    """
    found, wanted = text.split("\n"), [line.strip() for line in source.split("\n")]
    stripped = [line.strip() for line in found]
    starts = (start for start in range(len(found) - len(wanted), -1, -1) if stripped[start : start + len(wanted)] == wanted)
    start = next(starts, None)
    if start is None:
        return None
    first, last = start + lines[0] - 1, start + lines[1] - 1
    begin = sum(len(line) + 1 for line in found[:first])
    end = begin + sum(len(line) + 1 for line in found[first : last + 1]) - 1
    tokens = [number for number, (left, right) in enumerate(places) if left < end and right > begin]
    return (tokens[0], tokens[-1] + 1) if tokens else None


def token_places(token_ids: Sequence[int], text: str, decode: Decode) -> tuple[tuple[int, int], ...] | None:
    """The characters of ``text`` [left, right) that each token wrote a part of; special tokens wrote none.

    Decodes a window of the last tokens (as vLLM and TGI stream text), since a token's text may hang on the one before and a character
    may take several tokens.

    Returns:
        None where the tokens decode to another text.
    """
    places: list[tuple[int, int]] = []
    pieces: list[str] = []
    begin = read = written = 0
    for end in range(1, len(token_ids) + 1):
        before, after = decode(token_ids[begin:read]), decode(token_ids[begin:end])
        if after.endswith(UNFINISHED) and end < len(token_ids):
            continue
        pieces.append(after[len(before) :])
        left, written = written, written + len(pieces[-1])
        places += [(left, written)] * (end - read)
        begin, read = read if pieces[-1] else begin, end
    return tuple(places) if "".join(pieces) == text else None
