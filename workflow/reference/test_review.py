class Workflow:
    """A test loop, then one review."""

    async def __call__(self, problem):
        answer = await self.generate(problem)
        for _ in range(2):
            report = await self.test(problem, answer)
            if report.passed:
                break
            answer = await self.revise(problem, answer, report.feedback)
        report = await self.review(problem, answer)
        if not report.approved:
            answer = await self.revise(problem, answer, report.feedback)
        return answer
