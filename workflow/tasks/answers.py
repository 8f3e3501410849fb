"""Published sets whose answers are no code, as Problems: mathematics, questions on texts, multiple choice."""

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workflow.problem import Problem
from workflow.tasks.left_out import LeftOut

LETTERS = "ABCDEFGHIJ"


def to_math_problem(row: Mapping[str, Any]) -> Problem:
    """MATH (Hendrycks et al. 2021, arXiv 2103.03874), MATH-500 and AIME: ``problem`` with ``answer``, or a ``solution`` that boxes it."""
    row = {name.lower(): value for name, value in row.items()}
    answer = str(row["answer"]) if row.get("answer") not in (None, "") else read_boxed(row["solution"])
    if not answer:
        raise LeftOut("its solution has no \\boxed{} answer")
    level = re.search(r"\d", str(row.get("level", "")))
    name = row.get("unique_id") or row.get("id") or f"{row['split']}/{row['row']}"
    return Problem(
        id=f"{row['set']}/{name}",
        query=row["problem"],
        entry_point="",
        public_tests=(),
        hidden_tests=(answer,),
        reference=f"\\boxed{{{answer}}}",
        level=int(level[0]) if level else None,
        verifier="math",
        source=row["set"],
    )


def read_boxed(solution: str) -> str:
    """What the last ``\\boxed{}`` (or ``\\fbox{}``) holds, with its own braces; empty where there is none."""
    start = max(solution.rfind("\\boxed{"), solution.rfind("\\fbox{"))
    if start < 0:
        return ""
    depth, begin = 0, solution.index("{", start)
    for place in range(begin, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[place], 0)
        if depth == 0:
            return solution[begin + 1 : place].strip()
    return ""


def to_hotpotqa_problem(row: Mapping[str, Any]) -> Problem:
    """HotpotQA (Yang et al. 2018, arXiv 1809.09600) with its ten paragraphs; graded by F1."""
    context = row["context"]
    pairs = zip(context["title"], context["sentences"], strict=True) if isinstance(context, Mapping) else context
    paragraphs = "\n\n".join(f"{title}: {''.join(sentences)}" for title, sentences in pairs)
    return _question(f"HotpotQA/{row.get('id') or row['_id']}", paragraphs, row["question"], [row["answer"]], "f1", "hotpotqa")


def to_drop_problem(row: Mapping[str, Any]) -> Problem:
    """DROP (Dua et al. 2019, arXiv 1903.00161): ``answer`` and ``validated_answers``; graded by its own F1."""
    validated = row.get("validated_answers") or []
    if isinstance(validated, Mapping):  # a table of columns instead of rows
        validated = [dict(zip(validated, values, strict=True)) for values in zip(*validated.values(), strict=True)]
    accepted = [spans for answer in (row["answer"], *validated) if (spans := _drop_spans(answer))]
    if not accepted:
        raise LeftOut("it has no answer")
    return _question(f"DROP/{row['query_id']}", row["passage"], row["question"], list(_distinct(accepted)), "drop", "drop")


def _drop_spans(answer: Mapping[str, Any]) -> list[str]:
    if answer.get("number") not in (None, ""):
        return [str(answer["number"])]
    if answer.get("spans"):
        return list(answer["spans"])
    date = answer.get("date") or {}
    text = " ".join(str(date[part]) for part in ("day", "month", "year") if date.get(part))
    return [text] if text else []


def _distinct(accepted: Iterable[list[str]]) -> Iterable[list[str]]:
    return {tuple(spans): spans for spans in accepted}.values()


def _question(name: str, text: str, question: str, accepted: Sequence[Any], verifier: str, source: str) -> Problem:
    return Problem(
        id=name,
        query=f"{text}\n\nQuestion: {question}",
        entry_point="",
        public_tests=(),
        hidden_tests=(json.dumps(accepted, ensure_ascii=False),),
        reference=accepted[0] if isinstance(accepted[0], str) else "\n".join(accepted[0]),
        verifier=verifier,
        source=source,
    )


def to_mmlu_problem(row: Mapping[str, Any]) -> Problem:
    """MMLU (Hendrycks et al. 2021, arXiv 2009.03300): ``question``, ``choices``, and the place of the right one as ``answer``."""
    name = f"MMLU/{row.get('subject', '')}/{row['split']}/{row['row']}"
    return _choice(name, row["question"], row["choices"], int(row["answer"]), "mmlu")


def to_gpqa_problem(row: Mapping[str, Any]) -> Problem:
    """GPQA (Rein et al. 2023, arXiv 2311.12022); options in an order drawn by the question."""
    options = [row["Correct Answer"], *(row[f"Incorrect Answer {number}"] for number in (1, 2, 3))]
    order = random.Random(row["Question"]).sample(range(4), 4)
    name = f"GPQA/{row.get('Record ID') or row['row']}"
    return _choice(name, row["Question"], [options[place].strip() for place in order], order.index(0), "gpqa")


def _choice(name: str, question: str, options: Sequence[str], right: int, source: str) -> Problem:
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return Problem(
        id=name,
        query=f"{question.strip()}\n\n{listed}",
        entry_point="",
        public_tests=(),
        hidden_tests=(LETTERS[right],),
        reference=f"Answer: {LETTERS[right]}",
        verifier="choice",
        source=source,
    )
