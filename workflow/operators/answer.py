"""Short answers: reasoning to one, and cutting a long solution down to one (AFlow's AnswerGenerate and Format)."""

import re

from workflow.operators.operator import Operator
from workflow.text import cut_thoughts

_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)


class Answer(Operator):
    """Thinks a question through step by step and returns the final answer alone: a number, a word, a phrase."""

    name = "answer"
    system = "You are a careful problem solver. You think step by step and then state the final answer."
    prompt = """<problem>
{problem}
</problem>
Think step by step. Then give the final answer alone, without units or explanation, between <answer> and </answer>."""
    for_code = False

    async def __call__(self, problem: str) -> str:
        return read_answer(await self._ask(problem=problem))


class Format(Operator):
    """Extracts the short final answer from a long solution."""

    name = "format"
    system = "You extract final answers. You repeat the answer that a solution arrives at and nothing else."
    prompt = """<problem>
{problem}
</problem>
<solution>
{solution}
</solution>
State the final answer of this solution alone, without units or explanation, between <answer> and </answer>."""
    for_code = False

    async def __call__(self, problem: str, solution: str) -> str:
        return read_answer(await self._ask(problem=problem, solution=solution))


def read_answer(reply: str) -> str:
    """What stands between the last ``<answer>`` tags; the whole reply where there are none. Thoughts are not read."""
    reply = cut_thoughts(reply)
    found = _ANSWER.findall(reply)
    return (found[-1] if found else reply).strip()
