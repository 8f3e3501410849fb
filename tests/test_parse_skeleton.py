"""Skeletons: equal for what is one topology in other words, different for different ones; and what leads out of the language."""

import pickle
import textwrap

import pytest

from workflow.language.parse import parse_source
from workflow.program import Refusal, Workflow
from workflow.reference import load_reference_workflows


def parsed(body: str, before: str = "", methods: str = "") -> Workflow:
    lines = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
    source = f"{before}class Workflow:\n    async def __call__(self, problem):\n{lines}\n{textwrap.indent(methods, ' ' * 4)}"
    workflow = parse_source(source)
    assert isinstance(workflow, Workflow), workflow
    return workflow


SINGLE = "return await self.generate(problem)"
LOOP = """
answer = await self.generate(problem)
for _ in range(3):
    report = await self.test(problem, answer)
    if report.passed:
        break
    answer = await self.revise(problem, answer, report.feedback)
return answer
"""
FAN = "drafts = await asyncio.gather(*[self.generate(problem) for _ in range(3)])\nreturn await self.ensemble(problem, drafts)"

ONE_TOPOLOGY = {
    "hint": (SINGLE, "return await self.generate(problem, 'Be careful. v7')"),
    "named answer": (SINGLE, "answer = await self.generate(problem)\nreturn answer"),
    "text work": (SINGLE, "answer = await self.generate(problem)\nif len(answer) > 3:\n    answer = answer.strip()\nreturn answer"),
    "constant branch": (SINGLE, "if False:\n    return await self.review(problem, '')\nreturn await self.generate(problem)"),
    "after the return": (SINGLE, "return await self.generate(problem)\nawait self.review(problem, '')"),
    "empty loop": (SINGLE, "for _ in []:\n    await self.review(problem, '')\nreturn await self.generate(problem)"),
    "loop of texts": (SINGLE, "a = await self.generate(problem)\nfor c in a:\n    if c == 'x':\n        break\nreturn a"),
    "rounds": (LOOP, LOOP.replace("range(3)", "range(2)")),
    "names": (LOOP, LOOP.replace("answer", "draft").replace("report", "r")),
    "negation": (
        LOOP,
        """
        answer = await self.generate(problem, 'x')
        for _ in range(3):
            report = await self.test(problem, answer)
            if not report.passed:
                answer = await self.revise(problem, answer, report.feedback)
            else:
                break
        return answer
        """,
    ),
    "nested calls": (
        "a = await self.generate(problem)\nreturn await self.revise(problem, a, '')",
        "return await self.revise(problem, await self.generate(problem), 'again')",
    ),
    "width": (FAN, FAN.replace("range(3)", "range(5)")),
    "early return": (
        "a = await self.generate(problem)\nif problem.public_tests:\n    return a\nreturn await self.revise(problem, a, '')",
        "a = await self.generate(problem)\nif not problem.public_tests:\n    a = await self.revise(problem, a, '')\nreturn a",
    ),
}


@pytest.mark.parametrize(("one", "other"), ONE_TOPOLOGY.values(), ids=ONE_TOPOLOGY)
def test_one_topology_in_other_words_is_one_skeleton(one: str, other: str):
    first, second = parsed(one), parsed(other)
    assert first.skeleton == second.skeleton


def test_helpers_are_read_in_place_and_unused_ones_not_at_all():
    helper = "async def draft(self, problem):\n    return await self.generate(problem)"
    unused = "async def more(self, problem):\n    return await self.review(problem, '')"
    plain = parsed(SINGLE).skeleton
    assert parsed("return await self.draft(problem)", methods=helper).skeleton == plain
    assert parsed(SINGLE, methods=unused).skeleton == plain
    assert parsed("return await h(self, problem)", before="async def h(w, p):\n    return await w.generate(p)\n\n").skeleton == plain


def test_helpers_that_call_each_other_end():
    twice = "\n".join(f"async def h{n}(self, p):\n    await self.h{n + 1}(p)\n    await self.h{n + 1}(p)" for n in range(30))
    assert parsed("await self.h0(problem)\nreturn ''", methods=f"{twice}\nasync def h30(self, p):\n    await self.h0(p)").skeleton


DIFFERENT = {
    "operator": (SINGLE, "return await self.custom(problem, '')"),
    "loop": (SINGLE, FAN),
    "parallel": (FAN, "drafts = [await self.generate(problem) for _ in range(3)]\nreturn await self.ensemble(problem, drafts)"),
    "no way out of the loop": (LOOP, LOOP.replace("    if report.passed:\n        break\n", "")),
    "branch": (SINGLE, "if problem.public_tests:\n    return await self.generate(problem)\nreturn await self.custom(problem, '')"),
    "handler": (
        SINGLE,
        "try:\n    return await self.generate(problem)\nexcept OperatorError:\n    return await self.custom(problem, '')",
    ),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_another_topology_is_another_skeleton(one: str, other: str):
    assert parsed(one).skeleton != parsed(other).skeleton


def test_references_that_differ_in_more_than_rounds_have_their_own_skeletons():
    skeletons = {name: workflow.skeleton for name, workflow in load_reference_workflows().items()}
    assert skeletons["self_consistency_3"] == skeletons["self_consistency_5"]
    assert skeletons["single_call"] == skeletons["chain_of_thought"], "one call with another instruction"
    kinds = ("single_call", "self_consistency_3", "self_refine_3", "test_and_revise_3", "debate", "test_review")
    assert len({skeletons[name] for name in kinds}) == len(kinds)


def test_a_workflow_of_an_earlier_version_has_its_fingerprint_for_a_skeleton():
    workflow = parsed(SINGLE)
    assert pickle.loads(pickle.dumps(workflow)) == workflow
    earlier = Workflow.__new__(Workflow)
    earlier.__setstate__(["class Workflow: ...", "f", ("generate",), 0, 0, 0, 3, "ours", ""])
    assert earlier == Workflow("class Workflow: ...", "f", ("generate",), 0, 0, 0, 3) and earlier.skeleton == "f"


LEADS_OUT = {
    "module in a module": ("typing.sys.modules", "`typing.sys` is not allowed"),
    "private module": ("random._os", "`random._os` is not allowed"),
    "dictionary of a module": ("math.__dict__", ".__dict__"),
    "imported module of a module": ("sys", "`from typing import sys`"),
    "evaluated annotations": ("typing.get_type_hints(self)", "`typing.get_type_hints` is not allowed"),
    "attributes by text": ("string.Formatter().get_field('0.generate', (self,), {})", "`string.Formatter` is not allowed"),
    "dispatch on annotations": ("functools.singledispatch(str)", "`functools.singledispatch` is not allowed"),
    "module as a value": ("[m for m in (typing,)][0].sys", "the module `typing` can only be used"),
    "private of a value": ("asyncio.Lock()._loop", "`._loop`"),
    "bound elsewhere": ("eval('1')", "`eval` is not allowed"),
}


@pytest.mark.parametrize(("expression", "words"), LEADS_OUT.values(), ids=LEADS_OUT)
def test_what_leads_to_hidden_code_is_refused(expression: str, words: str):
    before = "import typing, random, math, string, functools\n" + ("from typing import sys\n" if expression == "sys" else "")
    before += "def other(eval):\n    return eval\n\n"
    before = before if "bound" in words or "eval" in words else before.replace("def other(eval):\n    return eval\n\n", "")
    parsed = parse_source(f"{before}class Workflow:\n    async def __call__(self, problem):\n        return str({expression})")
    assert isinstance(parsed, Refusal) and words in parsed.message, parsed


def test_a_class_pattern_reads_no_attribute_that_the_language_forbids():
    for name in ("__globals__", "f_back", "generate", "_private"):
        body = f"        match self.generate:\n            case object({name}=found):\n                return str(found)\n        return ''"
        parsed = parse_source(f"class Workflow:\n    async def __call__(self, problem):\n{body}")
        assert isinstance(parsed, Refusal) and f".{name}" in parsed.message, parsed


HONEST = (
    "from collections import Counter, abc\nimport collections.abc",
    "import re as regex\nfrom typing import List, Optional\nimport collections",
)


@pytest.mark.parametrize("imports", HONEST)
def test_public_names_of_modules_are_there(imports: str):
    uses = "regex.sub('a', 'b', '')" if "regex" in imports else "str(Counter('aab').most_common(1))"
    uses += " + str(isinstance([], collections.abc.Sequence))"
    source = f"{imports}\nclass Workflow:\n    async def __call__(self, problem):\n        self._kept = {uses}\n        return self._kept"
    assert isinstance(parse_source(source), Workflow), parse_source(source)


@pytest.mark.parametrize(
    ("body", "units"),
    [
        ("a = ''; b = ''; return a + b", 3),
        ("return (lambda: (lambda: ''))()()", 3),
        ("def h(a, b='x', *, c=''):\n    return a\nreturn h('')", 4),
        ("@functools.cache\ndef h():\n    return 'x'\nreturn h()", 4),
        ("try:\n    a = 'x'\nexcept ValueError:\n    a = ''\nreturn a", 4),
        ("match '':\n    case 'a':\n        a = 'b'\n    case _:\n        a = 'c'\nreturn a", 5),
    ],
    ids=["semicolons", "nested lambdas", "defaults", "decorators", "handlers", "cases"],
)
def test_no_form_of_code_is_free(body: str, units: int):
    assert parsed(body, before="import functools\n").units == units


def test_class_bodies_and_helpers_count():
    assert parsed("return ''", methods="X = 'a'\nY: str = 'b'").units == 3
    assert parsed("return ''", methods="def h(self):\n    return 'x'").units == 3
