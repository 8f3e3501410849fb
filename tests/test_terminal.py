"""Every text is shown as it is: no markup, no emoji code, nothing that a terminal obeys."""

import os
import re
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from launch import ROOT
from launch.doctor import show as show_findings
from launch.shell import one_sentence_errors
from sandbox.probe import Finding
from tests.run_factory import final_rows
from trainer.evaluation.show import print_table
from trainer.run.console import RunConsole
from trainer.run.terminal import Bar, Terminal, code, panel, plain, printable, table

HOSTILE = ["xs[i]", "[/INST]", "[bold]x[/bold]", "[link=http://x]y[/link]", ":smile:", "\\[red]", "[red", "a[b].py", "[@click=f()]z"]
COMMANDS = {
    "colour": "\x1b[31mred",
    "title": "\x1b]0;owned\x07",
    "csi of one byte": "\x9b2J",
    "carriage return": "right\rwrong",
    "backspace": "no\b\byes",
    "delete": "a\x7fb",
    "right to left": "a\u202eb",
    "lone surrogate": "a\ud83db",
    "line separator": "a\u2028b",
}


def shown(*renderables: object, plain_console: bool = False) -> str:
    out = StringIO()
    console = Console(file=out, width=100) if plain_console else Terminal(file=out, width=100)
    for renderable in renderables:
        console.print(renderable)
    return out.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("console", ["ours", "rich's own"])
def test_no_text_is_read_as_markup_wherever_it_stands(text: str, console: str):
    parts = (plain(text), panel(text, text), table([text], [[text]], title=text), table([], [[text]]), code(text))
    own = console == "rich's own"
    for part in parts:
        assert text in shown(part, plain_console=own)
    assert text in shown(text)


@pytest.mark.parametrize("text", COMMANDS.values(), ids=COMMANDS)
def test_no_text_commands_the_terminal(text: str):
    cell = printable(text)
    assert re.fullmatch(r"[\x20-\x7e\u2400-\u2426\ufffd]*", cell)
    parts = (text, plain(text), panel(text, text), table([text], [[text]], title=text), code(text), code(f"x = '''{text}'''"))
    everything = shown(*parts)
    assert everything.count(cell) == 9
    everything.encode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", everything)


def test_lines_and_indentation_stay():
    assert printable("def f():\r\n\treturn 1\n") == "def f():\n\treturn 1\n"


@pytest.mark.parametrize("text", [*HOSTILE, *COMMANDS.values()])
def test_the_bar_and_the_lines_of_a_run_show_names_as_they_are(text: str):
    out = StringIO()
    console = RunConsole(text, Terminal(file=out, width=200, force_terminal=True))
    console.say(text)
    console.stage(text, text)
    console.progress(text, 1, 3, text)
    console.alarms([text])
    console.close()
    without_ours = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", out.getvalue())
    assert without_ours.count(printable(text)) >= 7
    assert "\x1b]0" not in out.getvalue() and "\x9b" not in out.getvalue() and "\x07" not in out.getvalue()


def test_a_bar_on_a_console_of_richs_own_shows_a_label_as_it_is():
    out = StringIO()
    bar = Bar(Console(file=out, width=200, force_terminal=True), "a[b] [/x]", 3)
    bar.move(1, 3, "xs[i]")
    bar.close()
    assert "a[b] [/x]" in out.getvalue() and "xs[i]" in out.getvalue()


def test_what_an_endpoint_calls_its_models_is_shown_as_it_is():
    out = StringIO()
    show_findings([Finding("http://x[/]", False, "serves [red]m[/red]\x1b[2J", "start [it]")], Terminal(file=out, width=100))
    assert all(text in out.getvalue() for text in ("no", "http://x[/]", "serves [red]m[/red]␛[2J", "start [it]"))


@pytest.mark.parametrize("width", [200, 80, 60])
def test_the_final_table_shows_names_and_all_levels_at_any_width(width: int):
    out = StringIO()
    row = next(row for row in final_rows() if row["by_level"])
    names = ["a[b].py", "[/x]", "[red]\x1b[2J"]
    rows = [*({**row, "name": name} for name in names[:2]), {"name": names[2], "problems": 0, "by_level": {}}]
    print_table(rows, Terminal(file=out, width=width))
    text = out.getvalue()
    assert all(printable(name) in text for name in names) and "\x1b" not in text
    assert all(f"L{level}" in text for level in row["by_level"])
    assert max(len(line) for line in text.splitlines()) <= width


def test_no_cell_of_a_table_is_cut():
    text = shown(table(["name", "of"], [["x" * 150, "y" * 150]]))
    assert text.count("x") == 150 and text.count("y") == 150


@pytest.mark.parametrize("text", ["42", "The answer is in [0, 1] for all.", "#### 42", "def f(:", "x\x00y", "(" * 10_000])
def test_what_is_no_program_keeps_its_letters(text: str):
    assert code(text).plain == printable(text) and not code(text).spans


def test_a_program_is_shown_in_colours():
    assert code("def f(xs):\n    return [xs[i] for i in xs]\n").plain == "def f(xs):\n    return [xs[i] for i in xs]"
    assert code("def f(xs):\n    return xs\n").spans


def test_a_terminal_that_lacks_a_letter_gets_its_number():
    program = "from trainer.run.terminal import Terminal, panel\nTerminal().print(panel('caf\\u00e9 \\U0001f600', 'x'))"
    around = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "caf\\xe9" in done.stdout, done.stderr


def test_an_error_that_quotes_a_model_commands_no_terminal(capsys: pytest.CaptureFixture[str]):
    @one_sentence_errors
    def main() -> int:
        raise ValueError("no such operator: \x1b[2J[/x]")

    assert main() == 2 and capsys.readouterr().err == "error: no such operator: ␛[2J[/x]\n"
