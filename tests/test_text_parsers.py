"""No text of a model or a worker stalls who reads it, or breaks it: what grows faster than its text would stop all runs of a sandbox.

Texts of 100,000 characters are read in milliseconds where that is linear and in minutes where it is not, so that the limit of CPU time
says the same on any machine.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from sandbox.judges import perturb
from workflow.aflow import is_aflow
from workflow.blocks import Parsing
from workflow.code import extract_code
from workflow.language.parse import parse_workflow
from workflow.nano.simulated.job import read_job
from workflow.number import read_number
from workflow.operators.answer import read_answer
from workflow.operators.ensemble import read_choice
from workflow.operators.review import read_review
from workflow.operators.test import find_assert
from workflow.verifiers.code import UnittestVerifier, is_same_output

CHARACTERS = 100_000
CPU_S = 1.0
"""More than thirty times what the slowest takes on a slow core."""
PARSERS: dict[str, Callable[[str], object]] = {
    "review": read_review,
    "choice": lambda text: read_choice(text, 5),
    "answer": read_answer,
    "code": lambda text: extract_code(text, "f"),
    "program": extract_code,
    "number": read_number,
    "assert": lambda text: find_assert(text, "f"),
    "assert in code": lambda text: find_assert(extract_code(text), "f"),
    "workflow": parse_workflow,
    "output": lambda text: is_same_output(text, text + "0"),
    "request": lambda text: read_job([{"role": "user", "content": text}], {}),
}
REPEATED = [
    *" \n\t\r\u00a0\u2028179`~*_#>-.,:/$(['\"\\aA=<|",
    "1 ",
    "1,111",
    "1/",
    " /",
    "#### ",
    "answer is ",
    "answer",
    "\\boxed{",
    "- ",
    "> ",
]
REPEATED += [
    "verdict",
    "verdict ",
    "verdict not ",
    "```\n",
    "```python\n",
    "```py\nx\n```\n",
    "```\n```\nclass Workflow\n",
    "class Workflow\n",
]
REPEATED += ["```py\nclass Workflow\n", "class ", "<answer>", "</answer>", "<problem>", "<problem ", "A ", "option is ", "def f", "def  "]
REPEATED += [
    "~~~\n",
    "> ```\n",
    "   ```\n",
    "<think>",
    "def f():\n",
    "import x\n",
    "from x ",
    "```python def f(): pass```\n",
    "def f(x): return x```\n",
]
REPEATED += ["verdict is the solution is ", "is A ", ": ", "so A ", "\\frac{1}{2}", "#### 1 111", "<|", "|>", "\u200b", "\ufeff"]
REPEATED += ["def f(\n", "assert f(1) == 1\n", "assert f(1)==g\n", "assert (\n", "</think>", " \n", "x = \n"]
REPEATED += ["```\ndef a(): return b\n```\n", "&lt;", "[DONE]\n", "**1", "1 1/", "1^", "answer\n", "A. ", "because "]
BEFORE = ("", "```python\n")


@contextlib.contextmanager
def within_cpu_s(seconds: float, what: str) -> Iterator[None]:
    """Ends what takes longer, in the middle of a pattern, too."""

    def end(*_: object) -> None:
        raise AssertionError(f"more than {seconds} s of CPU time for {what}")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize("parser", PARSERS)
def test_a_parser_takes_time_in_proportion_to_its_text(parser: str):
    for piece in REPEATED:
        for before in BEFORE:
            with within_cpu_s(CPU_S, f"{before!r} and many of {piece!r}"):
                PARSERS[parser](before + piece * (CHARACTERS // len(piece)) + "\nx")


def test_a_text_is_parsed_only_so_often_and_a_megabyte_only_at_its_end():
    parsing, source, parsed = Parsing(1000), "x = 1\n" * 100, 0
    while not parsing.is_spent:
        parsing.tree(source)
        parsed += len(source)
    assert parsed <= 3 * 1000 + 10_000 + len(source) and parsing.tree("x = 1") is None
    with within_cpu_s(CPU_S * 3, "a megabyte of fences"):
        assert extract_code("```py\nx\n```\n" * 80_000 + "```python\ndef f(x):\n    return x\n```", "f") == "def f(x):\n    return x"


@pytest.mark.parametrize("piece", [" ", "\n", "\t", "$ ", "- "])
def test_eight_times_the_blanks_do_not_take_a_number_thirty_times_as_long(piece: str):
    def cpu_s(characters: int) -> float:
        began = time.process_time()
        read_number("7" + piece * (characters // len(piece)))
        return time.process_time() - began

    assert min(cpu_s(20_000) for _ in range(7)) < 30 * min(cpu_s(2_500) for _ in range(7))  # 8 or 64; no longer text is read


DEEP = {
    "minus": "assert f(1) == " + "-" * 1500 + "1",
    "not": "assert " + "not " * 480 + "f(1)",
    "attributes": "assert f(1)" + ".a" * 900 + " == 1",
    "sum": "assert f(1) == 1" + "+1" * 900,
    "calls": "assert f(1)" + "()" * 900,
    "subscripts": "assert f(1)" + "[0]" * 600,
    "lambda": "assert f(1) == " + "lambda:" * 250 + "1",
    "lists": "assert f(1) == " + "[" * 150 + "]" * 150,
    "parentheses": "assert f(1) == " + "(" * 150 + "1" + ")" * 150,
    "or": "assert f(1) == (" + "1 or (" * 80 + "1" + ")" * 81,
    "if else": "assert f(1) == (" + "1 if 1 else " * 150 + "1)",
    "f-string": 'assert f(1) == f"{f(1)!r:{1}}\\n{chr(92)}"',
    "surrogate": "assert f('\\ud800') == '\\ud800'",
    "null": "assert f(1) == '\0'",
    "digits": "assert f(1) == " + "9" * 1900,
    "hexadecimal digits": "assert f(1) == 0x" + "f" * 1900,
}


@pytest.mark.parametrize("name", DEEP)
def test_an_assert_of_a_worker_is_usable_or_none_however_deep_it_is(name: str):
    test = find_assert(DEEP[name], "f")
    if test is not None:
        case = UnittestVerifier.assert_as_test.format(test=test)
        compile(case, "<test>", "exec")
        assert perturb.perturb(case, "second")


def test_an_honest_assert_is_found():
    assert find_assert("Here:\nassert f([[1, (2, {3: [4]})]]) == {'a': [1, -2]}, 'why'", "f") == (
        "assert f([[1, (2, {3: [4]})]]) == {'a': [1, -2]}"
    )


def test_a_verdict_and_the_marks_around_it_are_taken_out_of_the_feedback():
    report = read_review("Good.\n\n** > # `Verdict: rejected`.\nOff by one.\n_ verdict:\nnot approved\n")
    assert report == {"approved": False, "feedback": "Good.\nOff by one."}
    assert read_review("**Verdict: approved**") == {"approved": True, "feedback": ""}


def test_a_number_and_its_fraction_may_stand_apart():
    assert str(read_number("so 3  /  4")) == "3/4" and str(read_number("#### 7" + "\n" * 500)) == "7"


def test_a_deep_source_is_no_aflow():
    assert not is_aflow("-" * 100_000 + "1")
