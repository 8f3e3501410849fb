"""The program in a reply that shows more than that: calls of it, its tests, excerpts, sample input."""

import contextlib
import io
from unittest import mock

import pytest

from workflow.code import extract_code


def fenced(*code: str, label: str = "python") -> str:
    return f"```{label}\n" + "\n".join(code) + "\n```\n"


SOLUTION = ("n = int(input())", "print(n * 2)")
MAIN = ("def main():", "    n = int(input())", "    print(n * 2)")
SOLVE = ("import sys", "", "def solve(text):", "    return int(text) * 2", "", "print(solve(sys.stdin.read()))")
PROGRAMS = {
    "how to run it": fenced(*SOLUTION) + "Run it:\n" + fenced("# python sol.py < in.txt"),
    "tests of its function": fenced("def double(n):", "    return 2 * n", "", *SOLUTION) + "Tests:\n" + fenced("assert double(2) == 4"),
    "fences without labels": fenced(*SOLUTION, label="") + "Input:\n" + fenced("5", label="") + "Output:\n" + fenced("10", label=""),
    "shell": fenced(*SOLUTION) + fenced("echo 5 | python sol.py", label="bash"),
    "excerpts": fenced(*SOLUTION) + "1. Reading:\n" + fenced(SOLUTION[0]) + "2. Printing:\n" + fenced(SOLUTION[1]),
    "main called later": fenced(*MAIN) + "Then call it:\n" + fenced("main()"),
    "input replaced": fenced(*MAIN, "", "main()") + fenced("import io, sys", "sys.stdin = io.StringIO('7')", "main()"),
    "input patched": fenced(*MAIN, "", "if __name__ == '__main__':", "    main()")
    + fenced("from unittest.mock import patch", "with patch('builtins.input', return_value='7'):", "    main()"),
    "subprocess": fenced(*SOLUTION) + fenced("import subprocess", "print(subprocess.run(['python', 'sol.py'], input='7').stdout)"),
    "bare program, sample input in a fence": "Here it is.\n\n" + "\n".join(SOLUTION) + "\n\nExample:\n" + fenced("5", label=""),
    "a function called": fenced(*SOLVE) + "Example usage:\n" + fenced("print(solve('7'))"),
    "commented call": fenced(*SOLUTION) + fenced("# print(input())", "x = 5"),
    "all of the input": fenced("n = int(open(0).read())", SOLUTION[1]) + fenced("# 5 -> 10"),
    "a draft in thoughts": "<think>\nTry\n" + fenced("print(input())") + "No.\n</think>\n\n" + fenced(*SOLUTION) + "\n**Complexity:** O(1)",
    "in a list": "1. Code:\n\n   ```python\n   n = int(input())\n   print(n * 2)\n   ```\n\n2. Sample:\n\n   ```\n   5\n   ```",
    "a wrong one first": fenced("n = int(input())", "print(n)") + "That forgets to double:\n" + fenced(*SOLUTION),
    "own tests beside it": fenced("import unittest", *MAIN, "", "main()") + "It prints:\n" + fenced("10", label=""),
    "a constant, then the rest": fenced("FACTOR = 2") + fenced("n = int(input())", "print(n * FACTOR)"),
    "without a tail": "### Solution\n\n" + fenced(*SOLUTION)[:-5],
}
"""Each doubles the number that it reads."""
MEDIAN = ("def median(xs):", "    return sorted(xs)[len(xs) // 2]")
METHOD = ("class Solution:", *("    " + line.replace("(xs):", "(self, xs):") for line in MEDIAN))
MEDIANS = {
    "result of the same name": fenced(*MEDIAN) + "Usage:\n" + fenced("median = median([1, 2, 3])", "print(median)"),
    "result of a method": fenced(*METHOD) + fenced("median = Solution().median([1, 2, 3])", "print(median)"),
    "another name": fenced(*(line.replace("median", "solution") for line in MEDIAN)) + fenced("median = solution"),
    "a bound method": fenced(*METHOD) + fenced("median = Solution().median"),
    "a partial function": fenced("from functools import partial", "def pick(place, xs):", "    return sorted(xs)[int(len(xs) * place)]")
    + fenced("median = partial(pick, 0.5)"),
    "a stub, then a method": fenced("def median(xs):", "    ...") + fenced(*METHOD),
    "bare, then a result": "\n".join(MEDIAN) + "\n\nUsage:\n" + fenced("median = median([1, 2, 3])"),
    "a class repeated without its body": fenced(*METHOD)
    + "You had:\n"
    + fenced("class Solution:", "    def median(self, xs):", "        pass"),
    "an expected value": fenced(*MEDIAN) + "For [1, 2, 3]:\n" + fenced("median = 2"),
    "a session of the prompt first": "```pycon\n>>> def median(xs):\n...     return 0\n>>> median([1])\n0\n```\n" + fenced(*MEDIAN),
    "excerpts of its body": fenced(*MEDIAN)
    + "**Step 1**\n"
    + fenced("xs = sorted(xs)")
    + "**Step 2**\n"
    + fenced("return xs[len(xs) // 2]"),
    "its signature again": fenced(*MEDIAN) + "The signature:\n" + fenced("def median(xs):"),
    "its outline": fenced(*MEDIAN) + "Structure:\n" + fenced("def median(xs):", "    # sort", "    # take the middle", "    ..."),
    "its text again": fenced(*MEDIAN) + fenced("def median(xs):", '    """Middle."""'),
    "a file of tests": fenced(*MEDIAN)
    + fenced("import pytest", "from solution import median", "", "def test_it():", "    assert median([1]) == 1"),
    "a mock": fenced(*MEDIAN) + fenced("from unittest import mock", "median = mock.Mock(return_value=3)"),
    "two results at once": fenced(*MEDIAN) + fenced("median, mode = median([1, 2, 3]), 1"),
    "an annotated result": fenced(*MEDIAN) + fenced("median: int = median([1, 2, 3])"),
    "a file's name behind the label": "```python:solution.py\n" + "\n".join(MEDIAN) + "\n```",
    "tags around the fence": "<python>\n" + fenced(*MEDIAN) + "</python>",
    "a label without a fence": "python\n" + "\n".join(MEDIAN),
    "marks of MBPP's prompts": "[BEGIN]\n" + "\n".join(MEDIAN) + "\n[DONE]",
    "marks of Llama's prompts": "[PYTHON]\n" + "\n".join(MEDIAN) + "\n[/PYTHON]",
    "a header of a turn": "<|start_header_id|>assistant<|end_header_id|>\n\n" + fenced(*MEDIAN) + "<|eot_id|>",
    "gpt-oss": "<|channel|>analysis<|message|>Sort.<|end|><|start|>assistant<|channel|>final<|message|>" + fenced(*MEDIAN),
    "HTML's escapes": fenced("def median(xs):", "    return sorted(xs)[len(xs) // 2] if len(xs) &gt; 0 else None"),
    "a better one that is cut off": fenced(*MEDIAN) + "Faster:\n```python\ndef median(xs):\n    xs = sorted(xs\n",
    "two approaches": "### 1\n"
    + fenced(*MEDIAN)
    + "### 2\n"
    + fenced("import statistics", "def median(xs):", "    return statistics.median(xs)"),
    "a static method": fenced("class Solution:", "    @staticmethod", "    def median(xs):", "        return sorted(xs)[len(xs) // 2]"),
    "a method and a function": fenced(*METHOD, "", "def median(xs):", "    return Solution().median(xs)"),
    "installed first": fenced("!pip install numpy", "", *MEDIAN),
    "comments as headings": "# Solution\n\n" + "\n".join(MEDIAN) + "\n\n# Explanation\n\nIt sorts.",
}
"""Each holds ``median(xs)``."""


@pytest.mark.parametrize("reply", PROGRAMS.values(), ids=PROGRAMS)
def test_the_program_and_not_what_is_shown_of_it_counts(reply: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), mock.patch("sys.stdin", io.StringIO("5\n")):
        source = extract_code(reply).replace("open(0)", "__import__('sys').stdin")
        exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
    assert printed.getvalue() == "10\n"


@pytest.mark.parametrize("reply", MEDIANS.values(), ids=MEDIANS)
def test_a_function_counts_before_values_of_its_name(reply: str) -> None:
    names: dict[str, object] = {"__name__": "candidate"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(extract_code(reply, "median"), "<candidate>", "exec"), names)
    assert eval("median([3, 1, 2])", names) == 2
