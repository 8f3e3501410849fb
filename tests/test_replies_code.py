"""Worker replies in the shapes that models write them: the program in each, with what it needs, is found."""

import pytest

from workflow.code import extract_code, read_preamble
from workflow.text import cut_end_tokens, split_thoughts

REPLIES = {
    "plain": "def f(x):\n    return x + 1",
    "fence": "```python\ndef f(x):\n    return x + 1\n```",
    "prose_then_inline_fence": "Here is the code: ```python\ndef f(x):\n    return x + 1\n```\n",
    "indented_list_fence": "1. The function:\n\n   ```python\n   def f(x):\n       return x + 1\n   ```\n",
    "helper_in_first_block": (
        "First a helper:\n```python\ndef g(x):\n    return x + 1\n```\nThen:\n```python\ndef f(x):\n    return g(x)\n```"
    ),
    "imports_in_first_block": ("```python\nimport math\n```\nand\n```python\ndef f(x):\n    return int(math.floor(x)) + 1\n```"),
    "tilde_fence": "~~~python\ndef f(x):\n    return x + 1\n~~~",
    "four_backticks": "````python\ndef f(x):\n    return x + 1\n````",
    "fence_in_docstring": (
        '```python\ndef f(x):\n    """Adds one.\n\n    Example:\n    ```\n    f(1)\n    ```\n    """\n    return x + 1\n```\n'
    ),
    "unclosed": "```python\ndef f(x):\n    return x + 1\n",
    "crlf": "```python\r\ndef f(x):\r\n    return x + 1\r\n```\r\n",
    "bom": "\ufeff```python\ndef f(x):\n    return x + 1\n```",
    "bom_plain": "\ufeffdef f(x):\n    return x + 1",
    "caps_lang": "```Python\ndef f(x):\n    return x + 1\n```",
    "lang_python311": "```python3.11\ndef f(x):\n    return x + 1\n```",
    "lang_with_attr": ('```python title="a.py"\ndef f(x):\n    return x + 1\n```\n\nOutput:\n```\n2\n```'),
    "lang_with_attr2": "```{.python}\ndef f(x):\n    return x + 1\n```\n\nOutput:\n```\n2\n```",
    "pycon_after": ("```python\ndef f(x):\n    return x + 1\n```\nUsage:\n```pycon\n>>> f(1)\n2\n```"),
    "usage_block_defines_other": ("```python\ndef f(x):\n    return x + 1\n```\nTest:\n```python\nassert f(1) == 2\n```"),
    "usage_text_block": "```python\ndef f(x):\n    return x + 1\n```\nOutput:\n```\n2\n```",
    "wrong_then_right": ("```python\ndef f(x):\n    return x\n```\nWait, that is wrong:\n```python\ndef f(x):\n    return x + 1\n```"),
    "think_then_fence": ("<think>Maybe\n```python\ndef f(x):\n    return x\n```\nno.</think>\n```python\ndef f(x):\n    return x + 1\n```"),
    "think_fence_then_plain": ("<think>Maybe\n```python\ndef f(x):\n    return x\n```\nno.</think>\n\ndef f(x):\n    return x + 1"),
    "prose_no_fence": "Sure! Here is the function:\n\ndef f(x):\n    return x + 1\n\nThis adds one.",
    "prose_no_fence2": "def f(x):\n    return x + 1\n\nThis adds one to x.",
    "lambda_def": "```python\nf = lambda x: x + 1\n```\nExample:\n```python\nprint(f(1))\n```",
    "async_or_class": "```python\nclass Solution:\n    def f(self, x):\n        return x + 1\n```",
    "tabs": "```python\ndef f(x):\n\treturn x + 1\n```",
    "nbsp_indent": "```python\ndef f(x):\n\xa0\xa0\xa0\xa0return x + 1\n```",
    "zero_width": "```python\ndef f(x):\n    return x + 1\u200b\n```",
    "html_code_tag": "<code>\ndef f(x):\n    return x + 1\n</code>",
    "answer_tag": "<answer>\n```python\ndef f(x):\n    return x + 1\n```\n</answer>",
    "blockquote_fence": "> ```python\n> def f(x):\n>     return x + 1\n> ```",
    "fence_close_with_text": "```python\ndef f(x):\n    return x + 1\n``` This is it.",
    "two_fences_same_line_close": "```python\ndef f(x):\n    return x + 1```",
    "nested_markdown": "```markdown\n# Answer\n```python\ndef f(x):\n    return x + 1\n```\n```",
    "prompt_echo_signature": ("```python\ndef f(x):\n```\nThe complete:\n```python\ndef f(x):\n    return x + 1\n```"),
    "special_tokens": "```python\ndef f(x):\n    return x + 1\n```<|im_end|>",
    "special_tokens_plain": "def f(x):\n    return x + 1\n<|im_end|>",
    "ends_with_end_token_no_fence_newline": "```python\ndef f(x):\n    return x + 1\n```<|eot_id|>\n",
}
"""Each holds ``f(x)``, which returns ``x + 1``."""
SUMS = {
    "plain fence": "```python\ndef add(a, b):\n    return a + b\n```",
    "prose + fence + usage fence": ("Sure!\n```python\ndef add(a, b):\n    return a + b\n```\nExample:\n```python\nprint(add(1,2))\n```"),
    "helper+imports in first fence, function ": (
        "First the helper:\n```python\nimport math\ndef helper(x):\n    return math.floor(x)\n```\n"
        "Now the function:\n```python\ndef add(a, b):\n    return helper(a) + b\n```"
    ),
    "no fence, prose before": "Here is the solution:\n\ndef add(a, b):\n    return a + b",
    "no fence, prose after": "def add(a, b):\n    return a + b\n\nThis function adds two numbers.",
    "inline fence on one line": "```python def add(a,b): return a+b```",
    "think block with draft, then final": (
        "<think>\nMaybe\n```python\ndef add(a, b):\n    return a - b\n```\nno\n</think>\n\n```python\ndef add(a, b):\n    return a + b\n```"
    ),
    "think with draft, final without fence": (
        "<think>\nMaybe\n```python\ndef add(a, b):\n    return a - b\n```\nno\n</think>\n\ndef add(a, b):\n    return a + b"
    ),
    "wrong first, corrected later": (
        "```python\ndef add(a, b):\n    return a - b\n```\nWait, that is wrong. Corrected:\n"
        "```python\ndef add(a, b):\n    return a + b\n```"
    ),
    "right first, then 'alternative' slower/w": (
        "```python\ndef add(a, b):\n    return a + b\n```\n"
        "An alternative naive approach (do not use):\n```python\ndef add(a, b):\n"
        "    raise NotImplementedError\n```"
    ),
    "docstring holds ``` example": (
        '```python\ndef add(a, b):\n    """Adds.\n\n    ```\n    add(1, 2)\n    ```\n    """\n    return a + b\n```'
    ),
    "Python3 lang attr": '```python title="solution.py"\ndef add(a, b):\n    return a + b\n```',
    "tilde fence": "~~~python\ndef add(a, b):\n    return a + b\n~~~",
    "cut off fence": "```python\ndef add(a, b):\n    return a + b",
    "fence indented in list": "1. Solution:\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```",
    "class Solution wrapper (LeetCode habit)": ("```python\nclass Solution:\n    def add(self, a, b):\n        return a + b\n```"),
    "tests file after with def test + entry": (
        "```python\ndef add(a, b):\n    return a + b\n```\nTests:\n```python\n"
        "from solution import add\ndef test_add():\n    assert add(1,2)==3\n```"
    ),
    "same function redefined in usage block": (
        "```python\ndef add(a, b):\n    return a + b\n```\n\nAnd a type-hinted stub for reference:\n"
        "```python\ndef add(a: int, b: int) -> int: ...\n```"
    ),
}
"""Each holds ``add(a, b)``."""


def run(source: str, call: str) -> object:
    names: dict[str, object] = {"__name__": "candidate"}
    exec(compile(source, "<candidate>", "exec"), names)
    return eval(call, names)


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_the_program_of_a_reply_runs(reply: str) -> None:
    assert run(extract_code(reply, "f"), "f(1)") == 2


@pytest.mark.parametrize("reply", SUMS.values(), ids=SUMS)
def test_the_complete_definition_of_a_reply_runs(reply: str) -> None:
    assert run(extract_code(reply, "add"), "add(2, 3)") == 5


@pytest.mark.parametrize("reply", [*REPLIES.values(), *SUMS.values()])
def test_what_was_read_is_read_again_as_it_is(reply: str) -> None:
    once = extract_code(reply, "f" if reply in REPLIES.values() else "add")
    assert extract_code(once, "f" if reply in REPLIES.values() else "add") == once


def test_thoughts_that_are_never_closed_hold_no_program() -> None:
    assert extract_code("<think>Draft:\n```python\ndef f(x):\n    return x\n```\nand then", "f") == ""


def test_the_last_complete_program_counts_also_where_its_author_warns_of_it() -> None:
    wrong = "```python\ndef f(x):\n    return x\n```"
    assert run(extract_code(f"{REPLIES['fence']}\nA common mistake is:\n{wrong}", "f"), "f(1)") == 1


def test_helpers_of_helpers_come_along_and_usage_does_not() -> None:
    helpers = ["import math", "def h(x):\n    return math.floor(x)", "print(h(1))", "def g(x):\n    return h(x)"]
    blocks = [*helpers, "def f(x):\n    return g(x) + 1"]
    source = extract_code("\n".join(f"Then:\n```python\n{block}\n```" for block in blocks), "f")
    assert run(source, "f(1)") == 2 and "print" not in source and source.startswith("import math")


def test_a_program_without_an_entry_point_is_the_last_python_block_and_not_its_output() -> None:
    assert extract_code("```python\nprint(2)\n```\nOutput:\n```\n2\n```") == "print(2)"


def test_no_break_blanks_in_a_text_of_a_program_stay() -> None:
    source = "def f(x):\n    return '\u00a0\u200b'"
    assert extract_code(f"```python\n{source}\n```", "f") == source


@pytest.mark.parametrize("token", ["<|im_end|>", "<|eot_id|>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "</s>", "<|end|>\n<|endoftext|>"])
def test_tokens_that_end_a_turn_are_no_part_of_it(token: str) -> None:
    assert cut_end_tokens(f"It is x < y.\n{token}\n").rstrip() == "It is x < y."


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),
        ("<think>a</think><think>c</think>b", "b"),
        ("\n<thinking>a</thinking>b", "b"),
        ("[THINK]a[/THINK]b", "b"),
        ("\u25c1think\u25b7a\u25c1/think\u25b7b", "b"),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "b"),
        ("<think>a", ""),
        ("What <think> means", "What <think> means"),
    ],
)
def test_the_answer_is_what_follows_the_thoughts(text: str, answer: str) -> None:
    assert split_thoughts(text)[1] == answer


PROMPT = 'from typing import List\nimport math\n\n\ndef half(x):\n    return x / 2\n\n\ndef f(xs: List[int]) -> int:\n    """Adds."""\n'


def test_the_imports_and_helpers_of_a_prompt_hold_for_its_solution() -> None:
    assert read_preamble(PROMPT, "f") == ("from typing import List", "import math", "def half(x):\n    return x / 2")
    text = "Write a function from scratch. Start with:\n```\nimport math\nfrom x import y\ndef task_func(a):\n```"
    assert read_preamble(text, "task_func") == ("import math", "from x import y")
    assert read_preamble("Write f(xs) that imports = nothing, from 1 to 2.", "f") == ()
