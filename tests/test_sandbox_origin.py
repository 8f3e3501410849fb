"""Whose answer it is: what the workflow wrote itself, and what derives from the worker."""

import json
import pickle
import time
from dataclasses import replace

import pytest

from sandbox.origin import Sent, is_own_answer
from sandbox.records import Execution
from workflow.language.parse import parse_source
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow

BODY = """    seen = set()
    out = []
    for x in xs:
        if x not in seen:
            seen.add(x)
            out.append(x)
    return out"""
CODE = f"def f(xs):\n{BODY}"
OTHER = (
    "def f(xs):\n    result = []\n    for item in xs:\n        if item not in result:\n            result.append(item)\n    return result"
)
FUNCTION = Problem("p/0", "Write f(xs): its distinct elements, in order.", "f", (), ("assert f([1, 1]) == [1]",))
NUMBER = Problem("p/1", "How many?", "", (), ("42",), verifier="number")
STDIO = replace(FUNCTION, entry_point="", verifier="stdio")
CHOICE, TEXT = replace(NUMBER, verifier="choice"), replace(NUMBER, verifier="exact_match")
PROGRAM = "n = int(input())\nprint(n * 2 + 1)"
LAMBDA = "f = lambda xs: sum(x for x in xs if x > 0) + len(xs)"
HEADER = "from typing import *\nimport math, collections, itertools, functools, heapq, bisect, re, string\n"
ECHO = "Repeat the input verbatim."


def workflow(*lines: str) -> Workflow:
    parsed = parse_source("class Workflow:\n    async def __call__(self, problem):\n" + "\n".join("        " + line for line in lines))
    assert isinstance(parsed, Workflow), parsed
    return parsed


def fenced(code: str) -> str:
    return f"Here it is.\n\n```python\n{code}\n```\nIt works."


CALL = "draft = await self.generate(problem)"
PIECES = ", ".join(repr(line) for line in CODE.splitlines())
OWN = {
    "no call": ([f"return {CODE!r}"], CODE, []),
    "no reply": ([CALL, "return draft"], "", ["", " "]),
    "a call that is ignored": ([CALL, f"return {CODE!r}"], CODE, [fenced(OTHER)]),
    "a call that says nothing": ([CALL, f"return {CODE!r}"], CODE, ["ok"]),
    "in pieces": ([CALL, f"return chr(10).join([{PIECES}])"], CODE, [fenced(OTHER)]),
    "with a comment more": ([CALL, f"return {CODE!r}"], CODE + "\n# done", [fenced(OTHER)]),
    "with a name put in": ([CALL, f"return {CODE.replace('seen', '%s')!r} % (('seen',) * 3)"], CODE, [fenced(OTHER)]),
    "repeated by the worker": ([f"return await self.custom(problem, {('Answer exactly: ' + CODE)!r})"], CODE, [fenced(CODE)]),
    "as numbers": ([CALL, f"return bytes({list(CODE.encode())}).decode()"], CODE, ["Sure."]),
    "a constant, however short": ([CALL, "return 'pass'"], "pass", ["no idea"]),
    "backwards": ([CALL, f"return {CODE[::-1]!r}[::-1]"], CODE, ["I would sort them."]),
}
DERIVED = {
    "returned": ([CALL, "return draft"], CODE, [fenced(CODE)]),
    "the last of several": ([CALL, CALL, "return draft"], OTHER, [fenced(CODE), fenced(OTHER)]),
    "formatted": ([CALL, "return 'import math\\n\\n' + draft.strip()"], f"import math\n\n{CODE}", [fenced(CODE)]),
    "renamed": ([CALL, "return draft.replace('seen', 'known')"], CODE.replace("seen", "known"), [fenced(CODE)]),
    "joined": ([CALL, CALL, "return draft + draft"], f"{CODE}\n\n{OTHER.replace('f(', 'g(')}", [fenced(CODE), fenced(OTHER)]),
    "read from JSON": ([CALL, "return draft"], CODE, [json.dumps({"code": CODE})]),
    "in other quotes and brackets": (
        [CALL, "return draft"],
        "def f(xs):\n    return ('a')",
        ['```python\ndef f(xs):\n    return "a"\n```'],
    ),
    "after a hint": ([f"return await self.generate(problem, {'Use a set called seen, and for x in xs: loop.'!r})"], CODE, [fenced(CODE)]),
    "after a sketch": (["return await self.generate(problem, 'def f(xs): ...')"], CODE, [fenced(CODE)]),
    "cut to a line": ([CALL, "return draft"], "def f(xs):\n    return list(dict.fromkeys(xs))", ["Use `return list(dict.fromkeys(xs))`."]),
    "under a header of imports": (
        [CALL, f"return {HEADER!r} + draft"],
        HEADER + "def f(xs):\n    return sum(xs)",
        ["def f(xs): return sum(xs)"],
    ),
    "after a hint that is a solution in one line": (
        ["return await self.generate(problem, 'Maybe def f(xs): return sum(xs), but see to empty lists.')"],
        "def f(xs):\n    return sum(xs)",
        ["def f(xs):\n    return sum(xs)"],
    ),
}


@pytest.mark.parametrize(("lines", "answer", "replies"), OWN.values(), ids=OWN)
def test_a_solution_that_the_workflow_holds_is_its_own(lines: list[str], answer: str, replies: list[str]):
    assert is_own_answer(answer, workflow(*lines), FUNCTION, replies)


@pytest.mark.parametrize(("lines", "answer", "replies"), DERIVED.values(), ids=DERIVED)
def test_what_comes_from_a_reply_in_whatever_form_derives_from_it(lines: list[str], answer: str, replies: list[str]):
    assert not is_own_answer(answer, workflow(*lines), FUNCTION, replies)


@pytest.mark.parametrize(
    ("line", "answer", "replies", "own"),
    [
        ("return '#### 42'", "#### 42", [], True),
        ("return '#### 42'", "#### 42", ["It is 41."], True),
        ("return f'#### {42}'", "#### 42", ["It is 41."], True),
        ("return f'#### {42}'", "#### 42", ["So 6 * 7 = 42."], True),
        ("return str(6 * 7)", "42", ["It is 41."], True),
        ("found = '#### 42'\n        return found", "#### 42", ["It is 42."], True),
        ("found = '#### 41'\n        if '2' in draft: found = '#### 42'\n        return found", "#### 42", ["2"], False),
        ("h, m = draft.split(':')\n        return str(int(h) * 60 + int(m))", "60", ["1:00"], False),
        ("return '#### ' + str(round(100 * float(draft)))", "#### 100", ["1.0"], False),
        ("return '#### ' + draft", "#### twelve, one dozen is 12", ["twelve, one dozen is 12"], False),
        ("return (await self.program(problem)).output", "42", ["```python\ndef solve(): return 6 * 7\n```", "42"], False),
        ("return draft", "The answer is 42.", ["#### 42"], False),
        ("for _ in range(42): draft = str(int(draft) + 1)\n        return draft", "42", ["0"], False),
        ("return str(int(draft) + 2)", "42", ["It is 40."], False),
    ],
)
def test_a_number_is_the_workflows_own_where_it_returns_a_constant(line: str, answer: str, replies: list[str], own: bool):
    assert is_own_answer(answer, workflow(CALL, line), NUMBER, replies) is own


@pytest.mark.parametrize(
    ("line", "answer", "reply", "problem"),
    [
        ("return ['Answer: A', 'Answer: B', 'Answer: C', 'Answer: D'][int(draft)]", "Answer: C", "2", CHOICE),
        ("return {'y': 'yes', 'n': 'no'}[draft.strip().lower()[0]]", "yes", "Y", TEXT),
        ("if 'no' in draft: return 'no'\n        return 'yes'", "yes", "It is so.", TEXT),
    ],
)
def test_a_short_answer_that_a_reply_chose_derives_from_it(line: str, answer: str, reply: str, problem: Problem):
    assert not is_own_answer(answer, workflow(CALL, line), problem, [reply])


HALVES = CODE.partition("    out = []\n")
ECHOED = {
    "a program": (f"return await self.custom({PROGRAM!r}, {ECHO!r})", PROGRAM, STDIO),
    "two variables": (
        f"head, tail = {HALVES[0] + HALVES[1]!r}, {HALVES[2]!r}\n        return await self.custom(head + tail, {ECHO!r})",
        CODE,
        FUNCTION,
    ),
    "renamed": (f"return await self.custom({CODE.replace('f(', 'g(')!r}.replace('g(', 'f('), {ECHO!r})", CODE, FUNCTION),
    "a lambda": (f"return await self.custom({LAMBDA!r}, {ECHO!r})", LAMBDA, FUNCTION),
    "numbers": (f"return await self.custom(bytes({list(CODE.encode())}).decode(), {ECHO!r})", CODE, FUNCTION),
}


@pytest.mark.parametrize(("line", "answer", "problem"), ECHOED.values(), ids=ECHOED)
def test_a_solution_that_the_worker_was_sent_and_repeated_is_the_workflows_own(line: str, answer: str, problem: Problem):
    prompt = f"<input>\n{answer}\n</input>\n<instruction>\n{ECHO}\n</instruction>"
    assert is_own_answer(answer, workflow(line), problem, [fenced(answer)], [Sent(prompt, 0)])
    assert is_own_answer(answer, workflow(line), problem, ["ok", fenced(answer)], [Sent("Say ok.", 0), Sent(prompt, 1)])


def test_a_solution_that_was_sent_on_after_a_reply_had_it_or_that_the_query_shows_derives():
    lines = [CALL, "return await self.revise(problem, draft, 'Check.')"]
    sent = [Sent(FUNCTION.query, 0), Sent(f"Check.\n{CODE}", 1)]
    assert not is_own_answer(CODE, workflow(*lines), FUNCTION, [fenced(CODE), "It is right.\n" + fenced(CODE)], sent)
    joined = "import math\n\n" + CODE.replace("seen", "known")
    assert not is_own_answer(joined, workflow(*lines), FUNCTION, [fenced(CODE), fenced(joined)], [sent[0], Sent(joined, 1)])
    shown = replace(FUNCTION, query=f"Mend this where it is wrong:\n{CODE}")
    assert not is_own_answer(CODE, workflow(CALL, "return draft"), shown, [fenced(CODE)], [Sent(shown.query, 0)])


def test_a_draft_of_the_workflows_that_the_worker_corrected_derives_from_it():
    wrong = CODE.replace("not in seen", "in seen")
    line = f"return await self.revise(problem, {wrong!r}, 'Correct it.')"
    assert not is_own_answer(CODE, workflow(line), FUNCTION, [fenced(CODE)], [Sent(f"Correct it.\n{wrong}", 0)])


def test_looking_for_an_answer_in_replies_takes_no_longer_for_case_and_repetition():
    flow, took_s = workflow(CALL, "return draft"), []
    for answer, reply in (("word " * 3_200, "other " * 33_000), ("!-" * 8_000 + "z", "!-" * 100_000)):
        began_s = time.process_time()
        assert not is_own_answer(answer, flow, TEXT, [reply])
        took_s.append(time.process_time() - began_s)
    assert took_s[1] < 10 * took_s[0]


def test_a_text_that_cannot_be_read_counts_as_derived_and_ends_soon():
    for text in ("(" * 15_000, "-" * 15_000 + "1", "x" * 300_000, "\ud800", "a b " * 60_000):
        assert not is_own_answer(text, workflow(CALL, "return draft"), FUNCTION, [text])
        is_own_answer(text, workflow(CALL, "return draft"), NUMBER, [text, "no"])


def test_an_execution_of_an_earlier_version_is_read_back():
    execution = Execution(Outcome.ANSWERED, "x", (), "", 1.0, "landlock", own_answer=True)
    assert pickle.loads(pickle.dumps(execution)) == execution
    earlier = Execution.__new__(Execution)
    earlier.__setstate__([Outcome.ANSWERED, "x", (), "", 1.0, "landlock"])
    assert earlier == Execution(Outcome.ANSWERED, "x", (), "", 1.0, "landlock")
