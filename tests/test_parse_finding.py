"""Finding the workflow in a completion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.code import MAX_CHARACTERS
from workflow.language.parse import find_source, parse_workflow
from workflow.outcome import Outcome
from workflow.program import Refusal, Workflow

SOURCE = """class Workflow:
    async def __call__(self, problem):
        return await self.generate(problem)"""
OTHER = SOURCE.replace("self.generate(problem)", "self.custom(problem, 'x')")


def fenced(source: str, language: str = "python") -> str:
    return f"```{language}\n{source}\n```"


@pytest.mark.parametrize(
    "text",
    [
        SOURCE,
        f"\n\n{SOURCE}\n\n",
        fenced(SOURCE),
        fenced(SOURCE, ""),
        fenced(SOURCE, "py"),
        f"2 steps. Plan: one call.\n{fenced(SOURCE)}",
        f"Reasoning first.\n{fenced(SOURCE)}\nThat is all; class Workflow is short.",
        f"Reasoning first.\n{fenced(SOURCE)}\nclass Workflow above does it.",
        f"<think>\nPerhaps:\n{fenced(OTHER)}\nNo.\n</think>\n{fenced(SOURCE)}",
        f"Perhaps:\n{fenced(OTHER)}\nNo.</think>{SOURCE}",
        f"First try:\n{fenced(OTHER)}\nBetter:\n{fenced(SOURCE)}",
        f"Run it with\n{fenced('pip install x', 'bash')}\n{fenced(SOURCE)}\nand\n{fenced('print(1)')}",
        f"Here it is:\n\n{SOURCE}\n\nI hope that this helps.",
        f"1. A list\n\n   ```python\n{''.join('   ' + line + chr(10) for line in SOURCE.splitlines())}   ```\n",
        f"```python\n{SOURCE}",
        fenced(SOURCE).replace("\n", "\r\n"),
    ],
    ids=[
        *("raw", "raw_padded", "fence", "no_language", "py", "reasoning", "prose_after", "class_line_after", "think", "think_unopened"),
        *("last_of_two", "other_fences", "bare_in_prose", "indented_fence", "unclosed_fence", "crlf"),
    ],
)
def test_the_workflow_is_found(text: str):
    assert find_source(text) == SOURCE


@pytest.mark.parametrize(
    "text", ["", "I cannot.", fenced("print('class Workflow')"), f"<think>{fenced(SOURCE)}</think> I give up.", "class Workflows:\n  pass"]
)
def test_a_text_without_a_class_workflow_is_no_workflow(text: str):
    refusal = parse_workflow(text)
    assert isinstance(refusal, Refusal) and refusal.outcome is Outcome.NO_WORKFLOW


def test_helpers_and_imports_before_the_class_are_kept():
    source = f"import re\n\n\ndef clean(text):\n    return re.sub('x', '', text)\n\n\n{SOURCE}"
    assert find_source(source) == source
    assert find_source(f"So:\n{fenced(source)}") == source


def test_a_fence_inside_a_text_of_the_workflow_does_not_cut_it():
    source = SOURCE.replace(
        "return await self.generate(problem)", 'return await self.custom(problem, """Answer so:\n```python\ncode\n```\n""")'
    )
    assert find_source(f"Plan.\n{fenced(source)}\nDone.") == source
    assert isinstance(parse_workflow(fenced(source)), Workflow)


def test_code_that_follows_a_bare_class_is_kept():
    source = f"{SOURCE}\n\n\ndef helper(text):\n    return text\n\n\nROUNDS = 2"
    assert find_source(f"My answer:\n{source}\n\nThanks.") == source


def test_the_end_of_an_overlong_completion_still_counts():
    assert find_source("so " * MAX_CHARACTERS + "\n" + fenced(SOURCE)) == SOURCE


def test_a_class_cut_off_by_the_token_limit_is_a_syntax_error():
    refusal = parse_workflow("```python\nclass Workflow:\n    async def __call__(self, problem):\n        answer = await self.gen(")
    assert isinstance(refusal, Refusal) and refusal.outcome is Outcome.SYNTAX_ERROR and refusal.line == 3


@given(st.text())
def test_no_text_raises(text: str):
    assert isinstance(parse_workflow(text), Workflow | Refusal)


PIECES = st.sampled_from(
    [
        *(
            "```python\n",
            "```\n",
            "```",
            "class Workflow:\n",
            "    async def __call__(self, problem):\n",
            "</think>",
            "<think>",
            "\n",
            "    ",
        ),
        *(
            "        return await self.generate(problem)\n",
            "        x = 1\n",
            "import os\n",
            "(",
            '"""',
            "'",
            "\\",
            "#",
            "self.test(",
            "\0",
            "\ud800",
            "é",
            "\t",
        ),
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_no_mixture_of_workflow_pieces_raises(text: str):
    result = parse_workflow(text)
    assert isinstance(result, Workflow | Refusal)
    if isinstance(result, Refusal):
        assert result.outcome.is_refusal
        assert result.message.isprintable() and result.message.endswith(".")
