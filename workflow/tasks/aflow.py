"""The splits that AFlow (Zhang et al. 2024, arXiv 2410.10762) and FlowReasoner report on, by problem number.

``aflow_splits.json`` holds the numbers (MIT, LINs-lab/MASArena): HumanEval 33/131, MBPP sanitized 86/341, GSM8K 264/1055.
"""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from workflow.problem import Problem

SETS = {"humaneval": "humaneval", "mbpp_sanitized": "mbpp", "mbpp": "mbpp", "gsm8k": "gsm8k"}
Parts = tuple[tuple[Problem, ...], tuple[Problem, ...], tuple[Problem, ...]]


def aflow_split(name: str) -> Callable[..., Parts]:
    """How the set ``name`` is split. Raises ValueError where AFlow has no split of it."""
    if name not in SETS:
        raise ValueError(f"tasks.splits = 'aflow' knows {', '.join(SETS)}, not tasks.name = {name!r}: set tasks.splits=seeded.")
    numbers = json.loads((Path(__file__).parent / "aflow_splits.json").read_text())[SETS[name]]

    def split(problems: Sequence[Problem], *, train_size: int, validation_size: int, test_size: int, seed: int) -> Parts:
        """Test from AFlow's test problems; validation from its validation problems, whose rest trains beside all others.

        Where no other problems are (HumanEval), validation gets at most half of them.
        """
        parts: dict[str, list[Problem]] = {"test": [], "validation": [], "rest": []}
        sets = {part: set(members) for part, members in numbers.items()}
        for problem in problems:
            number = int(problem.id.split("/")[-1])
            known = problem.id.count("/") == 1  # GSM8K's training rows have a number, too
            parts[next((part for part in sets if known and number in sets[part]), "rest")].append(problem)
        rng = random.Random(seed)
        for members in parts.values():
            rng.shuffle(members)
        size = min(validation_size, len(parts["validation"]) if parts["rest"] else len(parts["validation"]) // 2)
        train = parts["rest"] + parts["validation"][size:]
        if not train or not parts["test"]:
            raise ValueError(f"These {len(problems)} problems do not hold AFlow's split of {name}: give the whole original file.")
        return tuple(train[:train_size]), tuple(parts["validation"][:size]), tuple(parts["test"][:test_size])

    return split
