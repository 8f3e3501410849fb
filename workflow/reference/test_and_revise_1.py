class Workflow:
    """Revision by execution feedback (Chen et al. 2023, arXiv 2304.05128) with one round."""

    async def __call__(self, problem):
        answer = await self.generate(problem)
        report = await self.test(problem, answer)
        if not report.passed:
            answer = await self.revise(problem, answer, report.feedback)
        return answer
