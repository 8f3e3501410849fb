"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168) as Problems: the answer is the number behind ``####``."""

import re
from collections.abc import Mapping
from typing import Any

from workflow.problem import Problem

_ANSWER = re.compile(r"####\s*([-+]?[\d,]*\.?\d+)\s*$")


def to_problem(row: Mapping[str, Any]) -> Problem:
    """One row: ``question``, ``answer`` (the worked solution, ending on ``#### number``), and its ``row`` in its ``split``.

    Raises ValueError where the answer ends otherwise.
    """
    found = _ANSWER.search(row["answer"])
    if found is None:
        raise ValueError("its answer does not end on #### and a number")
    return Problem(
        id=f"GSM8K/{'train/' if row['split'] == 'train' else ''}{row['row']}",
        query=row["question"],
        entry_point="",
        public_tests=(),
        hidden_tests=(found[1].replace(",", ""),),
        reference=row["answer"],
        verifier="number",
        source="gsm8k",
    )
