class Workflow:
    """Revision by execution feedback (Chen et al. 2023, arXiv 2304.05128) with up to 3 rounds."""

    async def __call__(self, problem):
        answer = await self.generate(problem)
        for _ in range(3):
            report = await self.test(problem, answer)
            if report.passed:
                break
            answer = await self.revise(problem, answer, report.feedback)
        return answer
