"""The problems that a policy can read: those whose meta-prompt fits ``model.max_prompt_tokens``."""

from collections.abc import Callable
from dataclasses import replace

from rollout.prompt import MetaPrompt
from rollout.settings import ModelSettings
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
                f"The {settings.meta_prompt} meta-prompts of all {left_out} {name} problems are longer than "
                f"model.max_prompt_tokens={limit} ({min(lengths)} to {max(lengths)} tokens): raise it."
            )
        if left_out:
            say(
                f"Left out {left_out} of {len(problems)} {name} problems: their {settings.meta_prompt} meta-prompts are longer than "
                f"model.max_prompt_tokens={limit} (the longest has {max(lengths)} tokens)."
            )
    return replace(tasks, **parts)
