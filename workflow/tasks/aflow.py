"""The splits that AFlow (Zhang et al. 2024, arXiv 2410.10762) and FlowReasoner report on, by problem number.

``aflow_splits.json`` holds the numbers (MIT, LINs-lab/MASArena): HumanEval 33/131, MBPP sanitized 86/341, GSM8K 264/1055.
"""

import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from workflow.problem import Problem
from workflow.tasks.files import split_file_set
from workflow.tasks.overlap import id_key

Parts = tuple[tuple[Problem, ...], tuple[Problem, ...], tuple[Problem, ...]]
UNPUBLISHED = "bigcodebench"
"""The paper tests on 300 of its problems, and does not say which."""
OTHERS = ""
"""In place of a set's name: problems of all other sets."""


@cache
def _read_splits() -> dict[str, dict[str, frozenset[int]]]:
    """Set -> part (``validation``, ``test``) -> numbers of its problems."""
    raw = json.loads((Path(__file__).parent / "aflow_splits.json").read_text())
    return {name: {part: frozenset(numbers) for part, numbers in parts.items()} for name, parts in raw.items()}


def _set_and_part(problem: Problem) -> tuple[str, str]:
    """The published set that a problem's id names, and ``test``, ``validation`` or ``rest``."""
    name, *others = id_key(problem.id).split("/")
    if name not in _read_splits():
        return name if name == UNPUBLISHED else OTHERS, "rest"
    numbers = [int(word) for word in others[-1:] if word.isdecimal()]
    is_other = name == "gsm8k" and "train" in others  # GSM8K's training rows are counted from 0, too
    parts = _read_splits()[name] if numbers and not is_other else {}
    return name, next((part for part in ("test", "validation") if part in parts and numbers[0] in parts[part]), "rest")


def split_as_aflow(problems: Sequence[Problem], *, train_size: int, validation_size: int, test_size: int, seed: int) -> Parts:
    """Test from AFlow's test problems; validation from its validation problems, whose rest trains beside all others.

    Each set of a mixed file is split by itself, as its problems' ids name it. Where a set has no other problems (HumanEval), at most
    half of its validation problems validate. Of sets that AFlow has no split of, a quarter each is held out at random, for tests more
    where ``test_size`` leaves room for more, at most half. Where there are no problems of any of these sets, it is the seeded split.

    Raises:
        ValueError: nothing is left to train on or to test.
    """
    rng = random.Random(seed)
    sets: dict[str, dict[str, list[Problem]]] = {}
    for problem in problems:
        name, part = _set_and_part(problem)
        sets.setdefault(name, {"test": [], "validation": [], "rest": []})[part].append(problem)
    if set(sets) <= {OTHERS}:
        return split_file_set(problems, train_size=train_size, validation_size=validation_size, test_size=test_size, seed=seed)
    published = sum(len(parts["test"]) for parts in sets.values())
    train: list[Problem] = []
    validation: list[Problem] = []
    test: list[Problem] = []
    for name, parts in sorted(sets.items()):
        for members in parts.values():
            rng.shuffle(members)
        if name in (OTHERS, UNPUBLISHED):
            count = len(parts["rest"])
            held_out = min(max(count // 4, test_size - published), count // 2) if test_size else 0
            parts["test"], parts["validation"] = parts["rest"][:held_out], parts["rest"][held_out : held_out + count // 4]
            del parts["rest"][: held_out + count // 4]
        keeps = len(parts["validation"]) if parts["rest"] else len(parts["validation"]) // 2
        test += parts["test"]
        validation += parts["validation"][:keeps]
        train += parts["rest"] + parts["validation"][keeps:]
    if len(sets) > 1:
        for members in (train, validation, test):
            rng.shuffle(members)
    train += validation[validation_size:]
    if not train or not test:
        raise ValueError(f"These {len(problems)} problems do not hold AFlow's split of their sets: give the whole original files.")
    return tuple(train[:train_size]), tuple(validation[:validation_size]), tuple(test[:test_size])
