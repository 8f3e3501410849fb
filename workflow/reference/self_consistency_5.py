import asyncio


class Workflow:
    """Self-consistency (Wang et al. 2022, arXiv 2203.11171) over 5 drafts."""

    async def __call__(self, problem):
        answers = await asyncio.gather(*[self.generate(problem) for _ in range(5)])
        answer = await self.ensemble(problem, answers)
        return answer
