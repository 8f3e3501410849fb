"""What fits into a policy's turns: problems whose meta-prompt it can read, traces that it can learn from."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from rollout.prompt.meta_prompt import MetaPrompt
from rollout.settings import ModelSettings
from rollout.traces import Trace
from trainer.algorithm.sft import LeftOut, SFTRow, sft_row, turns_of
from trainer.settings import RunSettings
from workflow.language.parse import parse_workflow
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.program import Workflow
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
    """Which traces of a distillation SFT learns from, and why not from the others."""

    def __init__(self, problems: Iterable[Problem], prompt: MetaPrompt, settings: RunSettings) -> None:
        """
        Args:
            problems: those that are trained on.
            prompt: the policy's.
        """
        self._problems = {problem.id: problem for problem in problems}
        self._prompt = prompt
        self._settings = settings
        self._best: dict[str, dict[str, tuple[float, int]]] = {}
        """For each problem and workflow: minus the reward and the number of its best trace, so that the least is to be kept."""
        self._unfit: Counter[LeftOut] = Counter()
        self.asked = 0
        """Traces seen."""
        self.useful = 0
        """Traces to learn from."""

    @property
    def wanted(self) -> int:
        """Rows to collect: no more than there can be."""
        distil = self._settings.distil
        return min(distil.traces, distil.per_problem * len(self._problems))

    @property
    def chosen(self) -> list[int]:
        """Numbers of the traces to learn from."""
        most = self._settings.distil.per_problem
        return sorted(index for ranked in self._best.values() for _, index in sorted(ranked.values())[:most])

    @property
    def left_out(self) -> Counter[LeftOut]:
        """How many of the others were left out for each reason, the most frequent first."""
        distinct = sum(map(len, self._best.values()))
        counts = Counter(self._unfit)
        counts[LeftOut("a workflow that another trace of their problem has")] = self.asked - self._unfit.total() - distinct
        counts[LeftOut(f"less reward than distil.per_problem={self._settings.distil.per_problem} others")] = distinct - self.useful
        return Counter(dict((+counts).most_common()))

    def describe(self) -> str:
        """One line: how many traces are learnt, and how many are left out for which reason."""
        reasons = ", ".join(f"{count} with {one.reason}" for one, count in self.left_out.items())
        return f"SFT learns from {self.useful} of {self.asked} traces{f'; left out: {reasons}' if reasons else ''}."

    def refuse_if_none(self, fault: str = "") -> None:
        """Raises ValueError, with each reason and its remedy, where there is nothing to learn from.

        Args:
            fault: what a machine failed with, where one did.
        """
        if not self.useful:
            remedies = " and ".join(dict.fromkeys(one.remedy for one in self.left_out if one.remedy))
            lost = f"; some were lost to infrastructure, the last one to: {fault}" if fault else ""
            todo = f"{remedies}, in a new trainer.run_dir" if remedies else "see traces.jsonl"
            raise ValueError(f"There is no trace to fine-tune on. {self.describe()} Now {todo}{lost}.")

    def row(self, trace: Trace) -> SFTRow | LeftOut:
        """A trace in the policy's tokens, or why it is no lesson."""
        distil, rounds = self._settings.distil, self._settings.rollout.rounds
        if trace.problem_id not in self._problems:
            return LeftOut("a problem that is not trained on")
        if trace.no_lesson:
            return LeftOut(trace.no_lesson)
        if distil.weighting == "passed" and trace.outcome is not Outcome.PASSED:
            return LeftOut(f"the outcome {trace.outcome}")
        if distil.weighting == "exp_reward" and trace.reward is None:
            return LeftOut("no reward, since an older version kept none", "set distil.weighting=passed")
        (ids,) = self._prompt.ids([self._problems[trace.problem_id]])
        turns = turns_of(trace.lesson, rounds if distil.rows == "turns" else 1, rounds)
        return sft_row(ids, turns, self._prompt, self._settings.model)

    def add(self, trace: Trace) -> bool:
        """Takes the next trace; whether there is one more to learn from."""
        self.asked += 1
        row = self.row(trace)
        if isinstance(row, LeftOut):
            self._unfit[row] += 1
            return False
        parsed = parse_workflow(trace.completion)
        likeness = parsed.fingerprint if isinstance(parsed, Workflow) else trace.completion
        ranked = self._best.setdefault(trace.problem_id, {})
        rank = (math.inf if trace.reward is None else -trace.reward, trace.index)
        is_more = likeness not in ranked and len(ranked) < self._settings.distil.per_problem
        ranked[likeness] = min(rank, ranked.get(likeness, rank))
        self.useful += is_more
        return is_more

    def weights(self, traces: Sequence[Trace]) -> list[float]:
        """How often each of the chosen traces is drawn, relative to the best of them."""
        distil = self._settings.distil
        if distil.weighting == "passed":
            return [1.0] * len(traces)
        rewards = [trace.reward for trace in traces if trace.reward is not None]
        return [math.exp((reward - max(rewards)) / distil.tau) for reward in rewards]
