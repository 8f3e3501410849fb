import asyncio


class Workflow:
    """Multi-agent debate (Du et al. 2023, arXiv 2305.14325): three agents, one round, a vote."""

    async def __call__(self, problem):
        answers = await asyncio.gather(*[self.generate(problem) for _ in range(3)])
        others = "Other agents wrote these solutions; take over what is better in them.\n\n" + "\n\n".join(answers)
        answers = await asyncio.gather(*[self.revise(problem, answer, others) for answer in answers])
        answer = await self.ensemble(problem, answers)
        return answer
