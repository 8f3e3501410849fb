"""What commands show on a terminal: every text as it is. The only file that knows rich.

Models, endpoints, files and settings write much of what is shown. None of it may be read as rich's markup (``xs[i]``, ``[/INST]``), as
an emoji code or as a control sequence of the terminal, nor be cut.
"""

import ast
import io
import os
import re
import sys
import warnings
from collections.abc import Collection, Sequence
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys or cannot show: control characters but newline and tab, changes of the direction of writing, lone surrogates."""


def printable(text: str) -> str:
    """The text with a picture in place of each character that a terminal would obey: ``\\x1b`` becomes ``␛``."""
    return _COMMANDS.sub(_picture, text.replace("\r\n", "\n"))


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


class Terminal(Console):
    """A console that shows texts as they are, also where they stand in a table."""

    def __init__(
        self, *, file: IO[str] | None = None, stderr: bool = False, width: int | None = None, force_terminal: bool | None = None
    ) -> None:
        """
        Args:
            file: what to write to; None: standard output (or with ``stderr`` standard error).
            width: columns; None: the terminal's, 80 where there is none.
            force_terminal: whether ``file`` counts as a terminal; None: whether it is one.
        """
        super().__init__(file=file, stderr=stderr, width=width, force_terminal=force_terminal, markup=False, emoji=False, highlight=False)
        stream = sys.stderr if stderr else sys.stdout
        if file is None and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of a terminal that has no such letter

    def render_str(self, text: str, **options: Any) -> Text:
        """See rich."""
        given: dict[str, Any] = {**options, "markup": False, "emoji": False, "highlight": False}
        return super().render_str(printable(text), **given)


def plain(text: str, style: str = "") -> Text:
    """The text as it is, for any console of rich."""
    return Text(printable(text), style=style)


def code(source: str) -> Text:
    """Python in colours; what is none (a number, prose) as it is."""
    if not _is_program(source):
        return plain(source)
    coloured = Syntax("", "python", theme="ansi_dark", word_wrap=True).highlight(printable(source))
    coloured.rstrip()
    return coloured


def _is_program(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(statement, ast.Expr) or isinstance(statement.value, ast.Call | ast.Await) for statement in body)


def panel(content: Text | str, title: str, border: str = "none") -> Panel:
    """A titled frame; long lines go on in the next one."""
    content = plain(content) if isinstance(content, str) else content
    return Panel(content, title=plain(title), title_align="left", border_style=border)


def table(columns: Sequence[str], rows: Sequence[Sequence[Text | str]], *, title: str = "", whole: Collection[str] = ()) -> Table:
    """Rows under a header; without columns' names only aligned.

    Args:
        whole: columns whose cells stay in one line, however narrow the terminal is.
    """
    out = Table(box=box.HEAVY_HEAD if columns else None, show_header=bool(columns), pad_edge=bool(columns), title_justify="left")
    out.title = plain(title, "table.title") if title else None
    for name in columns:
        out.add_column(plain(name), no_wrap=name in whole)
    for row in rows:
        out.add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in row))
    for column in out.columns:
        column.overflow = "fold"  # not cut
    return out


class Bar:
    """A progress bar that vanishes at its end."""

    def __init__(self, console: Console, label: str, total: int) -> None:
        self._progress = Progress(
            TextColumn("   {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(printable(label), total=total, detail="")

    def move(self, done: int, total: int, detail: str = "") -> None:
        """``done`` of ``total``."""
        self._progress.update(self._task, completed=done, total=total, detail=printable(detail))

    def close(self) -> None:
        """Takes it away."""
        self._progress.stop()


def quiet_libraries() -> None:
    """Keeps progress bars and start-up chatter of libraries off the console; call before they are imported."""
    for name, value in {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "RAY_DEDUP_LOGS": "0",
    }.items():
        os.environ.setdefault(name, value)
