import asyncio


class Workflow:
    """LLM-Blender (Jiang et al. 2023, arXiv 2306.02561): diverse drafts, ranked, then fused with the best as the ground."""

    async def __call__(self, problem):
        answers = await asyncio.gather(
            self.generate(problem),
            self.generate(problem, "Think step by step."),
            self.generate(problem, "Write the simplest solution that is right."),
        )
        answer = await self.ensemble(problem, answers)
        others = "Fuse the solution with what these others do better.\n\n" + "\n\n".join(answers)
        answer = await self.revise(problem, answer, others)
        return answer
