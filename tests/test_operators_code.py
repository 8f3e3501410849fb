"""Finding the program in a worker's reply."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.code import extract_code

CODE = "def f(xs):\n    return xs"


@pytest.mark.parametrize(
    "reply",
    [
        CODE,
        f"\n{CODE}\n",
        f"```python\n{CODE}\n```",
        f"```py\n{CODE}\n```",
        f"```\n{CODE}\n```",
        f"Text.\n```Python\n{CODE}\n```\nText.",
        f"First:\n```python\ndef f(xs): pass\n```\nBetter:\n```python\n{CODE}\n```",
        f"```python\n{CODE}\n```\nUse:\n```python\nprint(f([1]))\n```",
        f"```bash\npip install x\n```\n```python\n{CODE}\n```\n```json\n{{}}\n```",
        f"Cut off:\n```python\n{CODE}",
        f"   ```python\n{CODE}\n   ```",
    ],
)
def test_the_program_is_found(reply: str):
    assert extract_code(reply, "f") == CODE


def test_without_an_entry_point_the_last_block_counts():
    assert extract_code("```python\na = 1\n```\n```python\nb = 2\n```") == "b = 2"


def test_a_block_in_another_language_counts_where_there_is_no_python():
    assert extract_code(f"```text\n{CODE}\n```", "f") == CODE


def test_a_fence_within_a_line_closes_nothing():
    code = 'def f(xs):\n    return "```"'
    assert extract_code(f"```python\n{code}\n```", "f") == code


def test_extracting_again_changes_nothing():
    once = extract_code(f"Text.\n```python\n{CODE}\n```", "f")
    assert extract_code(once, "f") == once


@given(st.text(), st.text(max_size=5))
def test_no_reply_raises(reply: str, entry_point: str):
    assert isinstance(extract_code(reply, entry_point), str)
