"""Completions as policies write them: harmless habits are taken, what breaks the language is refused with all its faults."""

import pytest

from workflow.language.parse import parse_workflow
from workflow.program import Refusal, Workflow

TAKEN = {
    "r1 think + fence + imports + hints": (
        (
            "Okay, so I need to design a workflow. Let me think.\n\n"
            "The query is about checking close elements. Easy. A draft could be:\n\n```python\n"
            "class Workflow:\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)\n```\nBut tests exist so let's use test.\n"
            "</think>\n\nHere is the workflow:\n\n```python\nimport asyncio\n"
            "from typing import List, Dict, Any, Optional\n\n\nclass Workflow:\n"
            '    """Generate, test, revise."""\n\n    async def __call__(self, problem: Any) -> str:\n'
            "        solution: str = await self.generate(problem)\n"
            "        report = await self.test(problem, solution)\n        if not report.passed:\n"
            "            solution = await self.revise(problem, solution, report.feedback)\n"
            "        return solution\n```\n\nThis keeps the cost low.\n"
        ),
        (),
    ),
    "kwargs": (
        ("class Workflow:\n    async def __call__(self, problem, **kwargs):\n        return await self.generate(problem)"),
        ("default parameters",),
    ),
    "__init__(self) with constants, super().__ini": (
        (
            "```python\nclass Workflow:\n    def __init__(self):\n        super().__init__()\n"
            "        self.max_iterations = 3\n\n    async def __call__(self, problem):\n"
            "        solution = await self.generate(problem)\n"
            "        for _ in range(self.max_iterations):\n"
            "            report = await self.test(problem, solution)\n            if report.passed:\n"
            "                return solution\n"
            "            solution = await self.revise(problem, solution, report.feedback)\n"
            "        return solution\n```"
        ),
        ("super().__init__()",),
    ),
    "private helper method _fix": (
        (
            "```python\nclass Workflow:\n    async def _fix(self, problem, solution, feedback):\n"
            "        return await self.revise(problem, solution, feedback)\n\n"
            "    async def __call__(self, problem):\n        solution = await self.generate(problem)\n"
            "        report = await self.test(problem, solution)\n        if not report.passed:\n"
            "            solution = await self._fix(problem, solution, report.feedback)\n"
            "        return solution\n```"
        ),
        (),
    ),
    "logging / print": (
        (
            "```python\nimport asyncio\nimport logging\n\nlogger = logging.getLogger(__name__)\n\n"
            'class Workflow:\n    async def __call__(self, problem):\n        logger.info("start")\n'
            "        return await self.generate(problem)\n```"
        ),
        ("logging", "unused import"),
    ),
    "print progress": (
        (
            "```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            '        s = await self.generate(problem)\n        print(f"draft has {len(s)} characters")\n'
            "        return s\n```"
        ),
        (),
    ),
    "extra default arg in __call__": (
        (
            "```python\nclass Workflow:\n    async def __call__(self, problem, max_retries: int = 2):\n"
            "        answer = await self.generate(problem)\n        for i in range(max_retries):\n"
            "            report = await self.test(problem, answer)\n            if report.passed:\n"
            "                break\n"
            "            answer = await self.revise(problem, answer, report.feedback)\n"
            "        return answer\n```"
        ),
        ("default parameters",),
    ),
    "return dict/tuple (AFlow habit)": (
        (
            "```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            '        solution = await self.generate(problem)\n        return {"solution": solution}\n```'
        ),
        (),
    ),
    "AFlow operator style response['response']": (
        (
            "```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        solution = await self.generate(problem)\n"
            '        result = await self.test(problem, solution)\n        if result["passed"]:\n'
            "            return solution\n"
            '        return await self.revise(problem, solution, result["feedback"])\n```'
        ),
        (),
    ),
    "trailing usage example with __main__": (
        (
            "```python\nimport asyncio\n\nclass Workflow:\n    async def __call__(self, problem):\n"
            '        return await self.generate(problem)\n\nif __name__ == "__main__":\n'
            '    wf = Workflow()\n    asyncio.run(wf("problem"))\n```'
        ),
        ("__main__ block",),
    ),
    "two blocks: workflow then usage": (
        (
            "```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)\n```\n\nYou can use it like this:\n\n```python\n"
            "wf = Workflow()\nresult = await wf(problem)\n```"
        ),
        (),
    ),
    "f-string with backticks and nested quotes (3": (
        (
            "```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            '        plan = await self.custom(problem.query, "Write a short plan.")\n'
            '        return await self.generate(problem, f"Follow this plan:\\n{plan}\\n\\nReturn code for `{problem.entry_point}`.")\n'
            "```"
        ),
        (),
    ),
    "prompt with ``` fence inside a triple quoted": (
        (
            '```python\nclass Workflow:\n    PROMPT = """Answer in the form\n```python\n<code>\n```\n'
            'and nothing else."""\n\n    async def __call__(self, problem):\n'
            "        return await self.generate(problem, self.PROMPT)\n```"
        ),
        (),
    ),
    "time / asyncio.timeout": (
        (
            "```python\nimport asyncio\nimport time\n\nclass Workflow:\n"
            "    async def __call__(self, problem):\n        start = time.time()\n"
            "        answer = await self.generate(problem)\n        if time.time() - start > 10:\n"
            "            return answer\n        return answer\n```"
        ),
        (),
    ),
    "collections.Counter majority + ast.parse": (
        (
            "```python\nimport ast\nimport asyncio\nfrom collections import Counter\n\nclass Workflow:\n"
            "    async def __call__(self, problem):\n"
            "        sols = await asyncio.gather(*(self.generate(problem) for _ in range(5)))\n"
            "        valid = []\n        for s in sols:\n            try:\n                ast.parse(s)\n"
            "                valid.append(s)\n            except SyntaxError:\n                continue\n"
            "        return Counter(valid or sols).most_common(1)[0][0]\n```"
        ),
        (),
    ),
    "indented fence in list": (
        (
            "1. Reasoning: simple.\n2. Code:\n\n    ```python\n    class Workflow:\n"
            "        async def __call__(self, problem):\n            return await self.generate(problem)\n"
            "    ```\n"
        ),
        (),
    ),
    "@staticmethod/@property/nested def and lambd": (
        (
            "```python\nclass Workflow:\n    @staticmethod\n    def pick(reports):\n"
            "        return max(range(len(reports)), key=lambda i: reports[i].passed)\n\n    @property\n"
            "    def n(self):\n        return 3\n\n    async def __call__(self, problem):\n"
            "        sols = [await self.generate(problem) for _ in range(self.n)]\n"
            "        reports = [await self.test(problem, s) for s in sols]\n"
            "        return sols[self.pick(reports)]\n```"
        ),
        (),
    ),
    "isinstance/getattr guard": (
        (
            "```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        answer = await self.generate(problem)\n"
            '        tests = getattr(problem, "public_tests", None)\n        if tests:\n'
            "            report = await self.test(problem, answer)\n            if not report.passed:\n"
            "                answer = await self.revise(problem, answer, report.feedback)\n"
            "        return answer\n```"
        ),
        ("getattr",),
    ),
    "no fence, prose before and after": (
        (
            "Reasoning: easy query.\n\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        answer = await self.generate(problem)\n        return answer\n\n"
            "This workflow makes a single call."
        ),
        (),
    ),
    "try/except Exception": (
        (
            "```python\nclass Workflow:\n    async def __call__(self, problem):\n        try:\n"
            "            answer = await self.generate(problem)\n        except Exception as e:\n"
            '            answer = ""\n        return str(answer)\n```'
        ),
        (),
    ),
    "enum const + module-level constants + helper": (
        (
            '```python\nMAX_ROUNDS = 3\nINSTRUCTIONS = ["Be careful.", "Use recursion."]\n\n'
            "def best(scores):\n    return max(scores, key=scores.get)\n\nclass Workflow:\n"
            "    async def __call__(self, problem):\n        out = []\n"
            "        for instruction in INSTRUCTIONS:\n"
            "            out.append(await self.generate(problem, instruction=instruction))\n"
            "        return await self.ensemble(problem, out)\n```"
        ),
        (),
    ),
    "<code> tag answer / xml (AFlow <graph>)": (
        (
            "<graph>\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        answer = await self.generate(problem)\n        return answer\n</graph>"
        ),
        (),
    ),
    "tabs": (("class Workflow:\n\tasync def __call__(self, problem):\n\t\treturn await self.generate(problem)"), ()),
    "self.__class__ / hints with quotes, Optional": (
        (
            "```python\nfrom __future__ import annotations\nfrom typing import Optional\n\n"
            "class Workflow:\n    async def __call__(self, problem) -> Optional[str]:\n"
            "        answer: Optional[str] = None\n        answer = await self.generate(problem)\n"
            "        return answer\n```"
        ),
        ("from __future__",),
    ),
    "textwrap / copy / datetime imports": (
        (
            "```python\nimport textwrap\nimport copy\n\nclass Workflow:\n"
            '    async def __call__(self, problem):\n        hint = textwrap.dedent("""\n'
            '            Mind the edge cases.\n        """)\n'
            "        return await self.generate(problem, hint)\n```"
        ),
        (),
    ),
    "asyncio.run in gather": (
        (
            "```python\nimport asyncio\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        loop = asyncio.get_event_loop()\n"
            "        tasks = [loop.create_task(self.generate(problem)) for _ in range(3)]\n"
            "        answers = await asyncio.gather(*tasks)\n"
            "        return await self.ensemble(problem, answers)\n```"
        ),
        (),
    ),
    "answers tuple->list ensemble of gather kept": (
        (
            "```python\nimport asyncio\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        a, b, c = await asyncio.gather(self.generate(problem), self.generate(problem), self.generate(problem))\n"
            "        return await self.ensemble(problem, (a, b, c))\n```"
        ),
        (),
    ),
    "plain": (("class Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)"), ()),
    "fence": (("```python\nclass Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n```"), ()),
    "think": (
        (
            "<think>x</think>\n```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)\n```"
        ),
        (),
    ),
    "crlf": (
        ("```python\r\nclass Workflow:\r\n    async def __call__(self, problem):\r\n        return await self.generate(problem)\r\n```"),
        (),
    ),
    "lone_cr": (("class Workflow:\r    async def __call__(self, problem):\r        return await self.generate(problem)"), ()),
    "bom": (("\ufeffclass Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)"), ()),
    "bom_in_fence": (
        ("```python\n\ufeffclass Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n```"),
        (),
    ),
    "nbsp": (
        (
            "class Workflow:\n\xa0\xa0\xa0\xa0async def __call__(self, problem):\n"
            "\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0return await self.generate(problem)"
        ),
        (),
    ),
    "zero_width": (("\u200bclass Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)"), ()),
    "think_mentions_class": (
        (
            "<think>class Workflow: must...</think>\n```python\nclass Workflow:\n"
            "    async def __call__(self, problem):\n        return await self.generate(problem)\n```"
        ),
        (),
    ),
    "two_think": (
        (
            "<think>a</think><think>b</think>\n```python\nclass Workflow:\n"
            "    async def __call__(self, problem):\n        return await self.generate(problem)\n```"
        ),
        (),
    ),
    "answer_tags": (
        ("<answer>\nclass Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n</answer>"),
        (),
    ),
    "graph_tags": (
        ("<graph>\nclass Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n</graph>"),
        (),
    ),
    "inline_fence": (
        ("Here: ```python\nclass Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n```"),
        (),
    ),
    "tilde": (("~~~python\nclass Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n~~~"), ()),
    "typed": (("class Workflow:\n    async def __call__(self, problem: str) -> str:\n        return await self.generate(problem)"), ()),
    "future_import": (
        (
            "from __future__ import annotations\n\nclass Workflow:\n"
            "    async def __call__(self, problem):\n        return await self.generate(problem)"
        ),
        ("from __future__",),
    ),
    "main_guard": (
        (
            "class Workflow:\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)\n\nif __name__ == '__main__':\n    pass"
        ),
        ("__main__ block",),
    ),
    "super_init": (
        (
            "class Workflow:\n    def __init__(self):\n        super().__init__()\n        self.n = 2\n"
            "    async def __call__(self, problem):\n        return await self.generate(problem)"
        ),
        ("super().__init__()",),
    ),
    "init_args_any": (
        (
            "class Workflow:\n    def __init__(self, llm=None):\n        self.n = 2\n"
            "    async def __call__(self, problem):\n        return await self.generate(problem)"
        ),
        ("default parameters",),
    ),
    "logging": (
        ("import logging\nclass Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)"),
        ("unused import",),
    ),
    "dataclass": (
        (
            "from dataclasses import dataclass\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)"
        ),
        ("unused import",),
    ),
    "base_object": (("class Workflow(object):\n    async def __call__(self, problem):\n        return await self.generate(problem)"), ()),
    "print": (
        ("class Workflow:\n    async def __call__(self, problem):\n        print('x')\n        return await self.generate(problem)"),
        (),
    ),
    "gather": (
        (
            "import asyncio\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        a = await asyncio.gather(*[self.generate(problem) for _ in range(3)])\n"
            "        return await self.ensemble(problem, a)"
        ),
        (),
    ),
    "gather_ensemble_tuple": (
        (
            "import asyncio\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        a = tuple(await asyncio.gather(*[self.generate(problem) for _ in range(3)]))\n"
            "        return await self.ensemble(problem, a)"
        ),
        (),
    ),
    "walrus_match": (
        (
            "class Workflow:\n    async def __call__(self, problem):\n"
            "        if (r := await self.test(problem, 'x')).passed:\n            return 'x'\n"
            "        match r.feedback:\n            case '':\n                return 'y'\n"
            "            case _:\n                return await self.generate(problem)"
        ),
        (),
    ),
    "non_english": (
        (
            "class Workflow:\n    # 先生成\uff0c再测试\n    async def __call__(self, problem):\n"
            "        答案 = await self.generate(problem, '一步一步思考')\n        return 答案"
        ),
        (),
    ),
    "test_keyword_result": (
        (
            "class Workflow:\n    async def __call__(self, problem):\n"
            "        a = await self.generate(problem)\n        r = await self.test(problem, a)\n"
            "        return a if r['passed'] else await self.revise(problem, a, r['feedback'])"
        ),
        (),
    ),
    "trailing_prose": (
        (
            "class Workflow:\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)\n\nThis workflow generates one answer."
        ),
        (),
    ),
    "leading_prose_bare": (
        (
            "Here is my workflow:\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)\nIt is short."
        ),
        (),
    ),
    "type_alias": (
        ("type X = str\nclass Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)"),
        (),
    ),
}
"""With what is repaired in each."""
REFUSED = {
    "__init__ with super and llm config (AFlow ha": (
        (
            "```python\nclass Workflow:\n    def __init__(self, name, llm_config, dataset):\n"
            "        self.name = name\n\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)\n```"
        ),
        "__init__ must be `def __init__(self)`.",
    ),
    "dataclass helper": (
        (
            "```python\nfrom dataclasses import dataclass\n\n@dataclass\nclass Candidate:\n    code: str\n"
            "    passed: bool\n\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        cands = []\n        for _ in range(3):\n"
            "            c = await self.generate(problem)\n            r = await self.test(problem, c)\n"
            "            cands.append(Candidate(c, r.passed))\n"
            "        best = next((c for c in cands if c.passed), cands[0])\n        return best.code\n```"
        ),
        "`from dataclasses import` is not allowed; module",
    ),
    "inherits BaseWorkflow": (
        (
            "```python\nclass Workflow(BaseWorkflow):\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)\n```"
        ),
        "Workflow takes no base classes, keywords or deco",
    ),
    "sync def __call__": (
        ("```python\nclass Workflow:\n    def __call__(self, problem):\n        return self.generate(problem)\n```"),
        "__call__ must be `async def __call__(self, probl",
    ),
    "forgotten await": (
        (
            "```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        answer = self.generate(problem)\n"
            "        review = await self.review(problem, answer)\n        return answer\n```"
        ),
        "`self.generate(problem)` is not awaited; write `",
    ),
    "unfinished (truncated) fence": (
        (
            "</think>\n```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        answer = await self.generate(problem)\n"
            "        report = await self.test(problem, answer)\n        if report.passed:\n"
            "            return answer\n        answer = await self.revi"
        ),
        "self.revi does not exist; the operators are gene",
    ),
    "truncated inside <think> with a draft (no </": (
        (
            "<think>\nOkay. Let me think about a draft:\n\n```python\nclass Workflow:\n"
            "    async def __call__(self, problem):\n        return await self.generate(problem)\n```\n\n"
            "Hmm, but wait. The query has edge cases so perhaps I should consider"
        ),
        "The completion ended inside its thoughts",
    ),
    "class named differently + alias": (
        (
            "```python\nclass MultiAgentWorkflow:\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)\n\nWorkflow = MultiAgentWorkflow\n```"
        ),
        "The completion holds no `class Workflow`",
    ),
    "self.solve / hallucinated operator": (
        (
            "```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        plan = await self.plan(problem)\n"
            "        return await self.code_generate(problem, plan)\n```"
        ),
        "self.plan does not exist; the operators are gene",
    ),
    "mixed_tabs": (
        ("class Workflow:\n    async def __call__(self, problem):\n\treturn await self.generate(problem)"),
        "Line 3 is not Python: inconsistent use o",
    ),
    "smart_quotes": (
        ("class Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem, \u201chint\u201d)"),
        "Line 3 is not Python: invalid character ",
    ),
    "unclosed_think": (
        (
            "<think>plan ```python\nclass Workflow:\n    async def __call__(self, problem):\n"
            "        return await self.generate(problem)\n```"
        ),
        "The completion ended inside its thoughts",
    ),
    "query_name": (
        ("class Workflow:\n    async def __call__(self, query):\n        return await self.generate(query)"),
        "__call__ must be `async def __call__(self, probl",
    ),
    "lower": (
        ("class workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)"),
        "The completion holds no `class Workflow`",
    ),
    "other_name": (
        ("class MathWorkflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)"),
        "The completion holds no `class Workflow`",
    ),
}


@pytest.mark.parametrize(("text", "repairs"), TAKEN.values(), ids=TAKEN)
def test_a_plausible_completion_is_taken(text: str, repairs: tuple[str, ...]) -> None:
    parsed = parse_workflow(text)
    assert isinstance(parsed, Workflow), parsed.message
    assert parsed.repairs == repairs


@pytest.mark.parametrize(("text", "repairs"), TAKEN.values(), ids=TAKEN)
def test_a_repaired_workflow_is_taken_again_and_needs_no_repair(text: str, repairs: tuple[str, ...]) -> None:
    parsed = parse_workflow(text)
    assert isinstance(parsed, Workflow)
    again = parse_workflow(parsed.source)
    assert isinstance(again, Workflow) and again.repairs == () and again.fingerprint == parsed.fingerprint


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_a_completion_that_breaks_the_language_is_refused_with_the_reason(text: str, said: str) -> None:
    refusal = parse_workflow(text)
    assert isinstance(refusal, Refusal) and said in refusal.message
