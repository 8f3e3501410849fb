class Workflow:
    """Chain of thought (Wei et al. 2022, arXiv 2201.11903)."""

    async def __call__(self, problem):
        answer = await self.generate(problem, "Think step by step.")
        return answer
