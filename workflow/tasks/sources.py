"""The published task sets: where their rows come from and how a row becomes a Problem.

A row that cannot be judged (no hidden test left once the public ones are taken out, no function to call) is left out with
its reason, never guessed at.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workflow.problem import Problem
from workflow.settings import TaskSettings
from workflow.tasks.answers import to_drop_problem, to_gpqa_problem, to_hotpotqa_problem, to_math_problem, to_mmlu_problem
from workflow.tasks.bigcodebench import to_complete_problem, to_instruct_problem
from workflow.tasks.files import read_rows
from workflow.tasks.gsm8k import to_problem as gsm8k_problem
from workflow.tasks.hub import fetch_rows
from workflow.tasks.humaneval import to_problem as humaneval_problem
from workflow.tasks.left_out import LeftOut
from workflow.tasks.livecodebench import to_problem as livecodebench_problem
from workflow.tasks.mbpp import to_problem as mbpp_problem
from workflow.tasks.task_set import Loaded, check_file


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """One published set, from its original file or from its public home."""

    to_problem: Callable[[Mapping[str, Any]], Problem]
    """Raises KeyError, SyntaxError, TypeError or ValueError where the row is not of this set, LeftOut where it is and cannot be judged."""
    hub_id: str
    """Name at its public home, for the ``datasets`` library."""
    hub_config: str | None
    hub_splits: tuple[str, ...]
    file: str
    """What its original file is called, for messages."""

    def check(self, settings: TaskSettings) -> str:
        return "" if settings.path is None else check_file(settings)

    def __call__(self, settings: TaskSettings, /) -> Loaded:
        """The problems and what was left out; raises ValueError where file or public home do not give rows of this set."""
        problems: list[Problem] = []
        left_out: dict[str, str] = {}
        asked = {"set": settings.name, "libraries": settings.libraries, "since": settings.since, "until": settings.until}
        for number, row in self._rows(settings):
            try:
                problems.append(self.to_problem(asked | row))
            except LeftOut as reason:
                left_out[str(row.get("task_id", number))] = str(reason)
            except (KeyError, SyntaxError, TypeError, ValueError, StopIteration) as error:
                fault = f"no field {error}" if isinstance(error, KeyError) else str(error)
                raise ValueError(
                    f"{settings.path or self.hub_id}, line {number} is no problem of {settings.name} ({fault}): use the "
                    f"original file, {self.file}."
                ) from None
        return Loaded(tuple(problems), left_out)

    def _rows(self, settings: TaskSettings) -> Iterable[tuple[int, dict[str, Any]]]:
        if settings.path is not None:
            split = "train" if "train" in settings.file.name else "test"
            return ((number, {"split": split, "row": number - 1, **row}) for number, row in read_rows(settings.file))
        remedy = f"download {self.file} once and set tasks.path to it"
        splits = ((split, fetch_rows(self.hub_id, self.hub_config, split, remedy)) for split in self.hub_splits)
        return ((number + 1, {"split": split, "row": number, **row}) for split, rows in splits for number, row in enumerate(rows))


_MBPP_SPLITS = ("train", "test", "validation", "prompt")
PUBLISHED = {
    "humaneval": PublishedSet(humaneval_problem, "openai/openai_humaneval", None, ("test",), "HumanEval.jsonl.gz"),
    "mbpp": PublishedSet(mbpp_problem, "google-research-datasets/mbpp", "full", _MBPP_SPLITS, "mbpp.jsonl"),
    "mbpp_sanitized": PublishedSet(mbpp_problem, "google-research-datasets/mbpp", "sanitized", _MBPP_SPLITS, "sanitized-mbpp.json"),
    "bigcodebench": PublishedSet(to_complete_problem, "bigcode/bigcodebench", None, ("v0.1.0_hf",), "bigcodebench.jsonl"),
    "bigcodebench_instruct": PublishedSet(to_instruct_problem, "bigcode/bigcodebench", None, ("v0.1.0_hf",), "bigcodebench.jsonl"),
    "gsm8k": PublishedSet(gsm8k_problem, "openai/gsm8k", "main", ("test", "train"), "test.jsonl"),
    "math": PublishedSet(to_math_problem, "DigitalLearningGmbH/MATH-lighteval", None, ("test", "train"), "test.jsonl"),
    "math_500": PublishedSet(to_math_problem, "HuggingFaceH4/MATH-500", None, ("test",), "test.jsonl"),
    "aime_2024": PublishedSet(to_math_problem, "HuggingFaceH4/aime_2024", None, ("train",), "aime_2024.jsonl"),
    "hotpotqa": PublishedSet(to_hotpotqa_problem, "hotpotqa/hotpot_qa", "distractor", ("validation",), "hotpot_dev_distractor_v1.json"),
    "drop": PublishedSet(to_drop_problem, "EleutherAI/drop", None, ("validation",), "drop_validation.jsonl"),
    "mmlu": PublishedSet(to_mmlu_problem, "cais/mmlu", "all", ("test",), "test.jsonl"),
    "gpqa": PublishedSet(to_gpqa_problem, "Idavidrein/gpqa", "gpqa_diamond", ("train",), "gpqa_diamond.jsonl"),
    "livecodebench": PublishedSet(livecodebench_problem, "lighteval/code_generation_lite", "release_v6", ("test",), "test6.jsonl"),
}
