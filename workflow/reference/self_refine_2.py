class Workflow:
    """Self-Refine (Madaan et al. 2023, arXiv 2303.17651) with up to 2 rounds."""

    async def __call__(self, problem):
        answer = await self.generate(problem)
        for _ in range(2):
            report = await self.review(problem, answer)
            if report.approved:
                break
            answer = await self.revise(problem, answer, report.feedback)
        return answer
