"""The pieces of a text that may be programs: fenced blocks of many shapes, and bare code between prose.

Python's own parser decides where a block ends, since code may hold fences in its texts. All parsing of one text is paid from one
``Parsing``: so no text takes longer than in proportion to its length.
"""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from workflow.text import show_blanks

MAX_CLOSINGS = 8
"""Fences that are tried as the end of a block, and cuts as the end of bare code."""
_RUN = re.compile(r"(`{3,}|~{3,})(.*)")
_MARGIN = re.compile(r"[\s>*+\-\d.)\u200b\ufeff]*")
"""What may stand before a fence: blanks, a list's mark, a quote's."""
_LABEL = re.compile(r"\s*\{?\s*\.?([A-Za-z+#]+)[\d.]*")
_QUOTE = re.compile(r"\s*> ?")
_CODE_START = re.compile(r"[^\S\n]*(?:@|(?:async[^\S\n]+def|def|class|import|from)\b|[A-Za-z_]\w*[^\S\n]*(?::[^=\n]*)?=)")
_PYTHON = ("python", "py")
_ESCAPES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "#39": "'"}
_ESCAPE = re.compile(r"&(lt|gt|amp|quot|#39);")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a text that may be a program."""

    source: str
    language: str
    """``python``, the label of another language, empty where the fence has none."""
    tree: ast.Module | None
    """None where it is no Python."""


class Parsing:
    """Parses as much as three times the characters of a text, and a little more."""

    def __init__(self, characters: int) -> None:
        self._left = 3 * characters + 10_000

    @property
    def is_spent(self) -> bool:
        """True where nothing more is parsed."""
        return self._left < 0

    def tree(self, source: str) -> ast.Module | None:
        """The syntax tree; None where the source is no Python or too much has been parsed."""
        return self.try_tree(source)[0]

    def try_tree(self, source: str) -> tuple[ast.Module | None, int]:
        """The tree, or None and the line of the error; 0 where that is unknown."""
        self._left -= len(source)
        if self._left < 0:
            return None, 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(source), 0
        except SyntaxError as error:
            return None, error.lineno or 0
        except (ValueError, RecursionError, MemoryError, OverflowError):
            return None, 0

    def block(self, source: str, language: str) -> Block:
        """The source as a block; where only its invisible characters or HTML's escapes are no Python, without them."""
        tree = self.tree(source)
        shown = _ESCAPE.sub(lambda found: _ESCAPES[found[1]], show_blanks(source)) if tree is None else source
        return Block(shown, language, self.tree(shown)) if shown != source else Block(source, language, tree)


class _Fence(NamedTuple):
    """A line with a fence."""

    line: int
    run: str
    """Its backticks or tildes."""
    language: str
    """``python``, another label, or empty."""
    before: str
    """Code or prose in front of it; empty where there are only blanks or the marks of a list or a quote."""
    quoted: bool
    inside: str | None
    """The code between two fences of one line."""
    ends_line: bool

    @property
    def opens(self) -> bool:
        return not self.before or self.language == "python" or (self.ends_line and self.before.rstrip().endswith(":"))

    def closes(self, other: "_Fence") -> bool:
        same = self.run[0] == other.run[0] and len(self.run) >= len(other.run)
        return same and self.inside is None and (not self.before or self.ends_line)


def _read_fence(number: int, line: str) -> _Fence | None:
    found = _RUN.search(line)
    if found is None:
        return None
    margin, rest = line[: found.start()], show_blanks(found[2]).strip()
    before = "" if _MARGIN.fullmatch(margin) else margin
    label = _LABEL.match(rest)
    language = label[1].lower() if label else ""
    language = "python" if language in _PYTHON else language if label and " " not in rest else ""
    inside, again, _ = rest.partition(found[1])
    if not again:
        return _Fence(number, found[1], language, before, ">" in margin, None, not rest)
    if label and label[1].lower() in _PYTHON:
        return _Fence(number, found[1], "python", before, False, inside[label.end() :].strip(), False)
    return None if before else _Fence(number, found[1], "", before, False, inside, False)


def find_blocks(text: str, parsing: Parsing) -> tuple[list[Block], list[str]]:
    """The fenced blocks of a text, and what stands between them.

    Fences are backticks or tildes, at the beginning of a line, after a list's or a quote's mark, or behind prose; with a label in any form;
    closed with or without text behind, at the end of a line of code, or not at all.
    """
    lines = text.split("\n")
    fences = [fence for number, line in enumerate(lines) if "```" in line or "~~~" in line if (fence := _read_fence(number, line))]
    blocks: list[Block] = []
    prose: list[str] = []
    index = done = 0
    while index < len(fences):
        fence = fences[index]
        index += 1
        if fence.inside is None and not fence.opens:
            continue
        prose.append("\n".join([*lines[done : fence.line], fence.before]))
        if fence.inside is not None:
            blocks.append(parsing.block(fence.inside, fence.language))
            done = fence.line + 1
            continue
        closings = [each for each in fences[index : index + 2 * MAX_CLOSINGS] if each.closes(fence)][:MAX_CLOSINGS]
        block, closing = _read_block(lines, fence, closings, parsing)
        blocks.append(block)
        if closing is None:
            return blocks, prose
        index = fences.index(closing, index) + (not closing.language)
        done = closing.line + (not closing.language)
    return blocks, [*prose, "\n".join(lines[done:])]


def _read_block(lines: list[str], fence: _Fence, closings: Sequence[_Fence], parsing: Parsing) -> tuple[Block, _Fence | None]:
    """The block up to the first closing at which it is Python, else up to the first."""
    first: Block | None = None
    for closing in closings or [None]:
        code = lines[fence.line + 1 : closing.line if closing else None]
        code = [*code, closing.before] if closing and closing.before else code
        code = [_QUOTE.sub("", line, count=1) for line in code] if fence.quoted else code
        block = parsing.block("\n".join(_dedent(code)).strip("\n"), fence.language)
        if block.tree is not None or fence.language not in ("python", ""):
            return block, closing
        first = first or block
    assert first is not None
    return first, closings[0] if closings else None


def _dedent(lines: list[str]) -> list[str]:
    """Without the first line's indentation; a line with less, such as one of a long text, stays."""
    first = next((line for line in lines if line.strip()), "")
    indent = first[: len(first) - len(first.lstrip())]
    return [line.removeprefix(indent) for line in lines] if indent else lines


def find_bare(pieces: Iterable[str], parsing: Parsing) -> Iterator[Block]:
    """Pieces of prose that are Python: from a line that looks like code to the last whole statement at its level."""
    for piece in pieces:
        lines = show_blanks(piece).split("\n")
        number = 0
        while number < len(lines) and not parsing.is_spent:
            taken = 0
            if _CODE_START.match(lines[number]):
                block, taken = _longest(lines[number:], parsing)
                if block is not None:
                    yield block
            number += max(taken, 1)


def _longest(lines: list[str], parsing: Parsing) -> tuple[Block | None, int]:
    """The longest piece from the first line on that is Python, and its number of lines."""
    lines = _dedent(lines)
    end = len(lines)
    for _ in range(MAX_CLOSINGS):
        source = "\n".join(lines[:end])
        tree, error = parsing.try_tree(source)
        if tree is not None:
            return Block(source.strip("\n"), "", tree), end
        end = min(error - 1, end - 1)
        while end > 0 and (not lines[end].strip() or lines[end][0].isspace()):
            end -= 1  # to the beginning of the statement with the error
        if end <= 0:
            break
    return None, 0
