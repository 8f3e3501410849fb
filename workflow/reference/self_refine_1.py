class Workflow:
    """Self-Refine (Madaan et al. 2023, arXiv 2303.17651) with one round."""

    async def __call__(self, problem):
        answer = await self.generate(problem)
        report = await self.review(problem, answer)
        if not report.approved:
            answer = await self.revise(problem, answer, report.feedback)
        return answer
