"""What fits into a policy's turns: problems whose meta-prompt it can read, traces that it can learn from."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from rollout.distil import Trace
from rollout.prompt.meta_prompt import MetaPrompt
from rollout.settings import ModelSettings
from trainer.algorithm.batch import LeftOut, SFTRow, sft_row
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.tasks import TaskSet

AT_ONCE = 256
"""Prompts in memory at a time."""


def fitting(tasks: TaskSet, prompt: MetaPrompt, settings: ModelSettings, say: Callable[[str], None]) -> TaskSet:
    """The task set without the problems whose prompt is too long; ``say`` gets a line for each part that they were left out of.

    Tokenizer and settings alone decide, so a resumed run leaves out the same ones.

    Raises:
        ValueError: nothing is left of a part.
    """
    limit, parts = settings.max_prompt_tokens, {}
    for part, name in (("train", "training"), ("validation", "validation"), ("test", "test")):
        problems = getattr(tasks, part)
        lengths = [len(ids) for at in range(0, len(problems), AT_ONCE) for ids in prompt.ids(problems[at : at + AT_ONCE])]
        parts[part] = tuple(problem for problem, length in zip(problems, lengths, strict=True) if length <= limit)
        left_out = len(problems) - len(parts[part])
        if problems and not parts[part]:
            raise ValueError(
                f"The {prompt.name} meta-prompts of all {left_out} {name} problems are longer than "
                f"model.max_prompt_tokens={limit} ({min(lengths)} to {max(lengths)} tokens): raise it."
            )
        if left_out:
            say(
                f"Left out {left_out} of {len(problems)} {name} problems: their {prompt.name} meta-prompts are longer than "
                f"model.max_prompt_tokens={limit} (the longest has {max(lengths)} tokens)."
            )
    return replace(tasks, **parts)


class Lessons:
    """Which traces of a distillation SFT can learn from, and why it would leave out others that passed."""

    def __init__(self, problems: Iterable[Problem], prompt: MetaPrompt, settings: ModelSettings) -> None:
        """
        Args:
            problems: those that are trained on.
            prompt: the policy's.
        """
        self._problems = {problem.id: problem for problem in problems}
        self._prompt = prompt
        self._settings = settings
        self.useful: set[int] = set()
        """Numbers of the traces to learn from."""
        self.left_out: Counter[LeftOut] = Counter()

    @property
    def why_left_out(self) -> str:
        """In words."""
        return ", ".join(f"{count} with {one.reason}" for one, count in self.left_out.items())

    def add(self, trace: Trace) -> bool:
        """Takes a trace; whether it is one to learn from."""
        problem = self._problems.get(trace.problem_id)
        if trace.outcome is not Outcome.PASSED or problem is None:
            return False
        (ids,) = self._prompt.ids([problem])
        row = sft_row(ids, trace.completion, self._prompt.tokenizer, self._settings)
        if isinstance(row, SFTRow):
            self.useful.add(trace.index)
            return True
        self.left_out[row] += 1
        return False
