"""Final answers as texts: where they stand, exact match and F1 as SQuAD and HotpotQA measure them."""

import json
import re
import string
from collections import Counter
from collections.abc import Sequence

from workflow.problem import Problem
from workflow.text import cut_thoughts
from workflow.verifiers.runner import Examined, Runner
from workflow.verifiers.verifier import Verifier

MAX_CHARACTERS = 20_000
"""Only the end of a longer answer is read."""
TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_MARKED = re.compile(
    r"(?:####|(?<!\bthis )\banswer\b(?:[ \t]\w{1,20}){0,8}?[ \t*_]{0,9}(?:\bis\b|[:=])|^[\s*_#]{0,9}(?:\w{1,9} ){0,2}answer[ \t*_]{0,9}$)"
    r"(?=[\s*_:]{0,20}([^\s*_:].*))",
    re.IGNORECASE | re.MULTILINE,
)
"""Looks ahead for what is marked, so that the line behind a heading may mark something itself."""
ARTICLES = re.compile(r"\b(?:a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
_YES_NO = ("yes", "no", "noanswer")


def read_end(text: str) -> str:
    """The end of a text of a model, without thoughts."""
    return cut_thoughts(text)[-MAX_CHARACTERS:]


def read_final_answer(text: str) -> str:
    """What stands between the last ``<answer>`` tags, else behind the last "answer is", "Answer:", heading "Answer" or ``####``; else the
    whole text."""
    end = read_end(text)
    if tagged := [found.strip() for found in TAGGED.findall(end) if found.strip()]:
        return tagged[-1]
    marked = [bare for found in _MARKED.findall(end) if (bare := found.strip().strip("*").strip())]
    return marked[-1] if marked else end.strip().strip("*").strip()


def normalize_answer(text: str) -> str:
    """SQuAD's: lower case, without punctuation and articles, blanks as one."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def read_accepted(test: str) -> list[list[str]]:
    """The answers that a test accepts, each a list of spans: from a JSON list of texts or of lists of texts, else the text itself."""
    try:
        listed = json.loads(test)
    except ValueError:
        listed = test
    if not isinstance(listed, list):
        return [[test]]
    return [[str(span) for span in one] if isinstance(one, list) else [str(one)] for one in listed]


def word_f1(found: Sequence[str], expected: Sequence[str]) -> float:
    """F1 of two bags of words."""
    common = sum((Counter(found) & Counter(expected)).values())
    return 2 * common / (len(found) + len(expected)) if common else float(found == expected)


class ExactMatchVerifier(Verifier):
    """The test is the expected text, or a JSON list of texts of which one is expected; compared as SQuAD does."""

    form = "Reason as you need to, then give the final answer alone, in as few words as possible, between <answer> and </answer>."
    answer = "the final answer as a text of few words, without explanation"

    def read_solution(self, text: str, problem: Problem) -> str:
        return read_final_answer(text)

    def compare(self, solution: str, test: str) -> str | None:
        right = any(self.matches(solution, accepted) for accepted in read_accepted(test))
        return None if right else "the answer is not the expected one"

    def matches(self, solution: str, accepted: Sequence[str]) -> bool:
        """True where a solution is one accepted answer as a whole."""
        return normalize_answer(solution) == normalize_answer(" ".join(accepted))


class F1Verifier(ExactMatchVerifier):
    """The same tests, graded by the words that answer and expected text share (SQuAD 1.1, HotpotQA); only a whole match passes."""

    async def examine(self, runner: Runner, problem: Problem, answer: str, tests: Sequence[str]) -> Examined:
        solution = self.read_solution(answer, problem)
        grades = [max(self.grade(solution, accepted) for accepted in read_accepted(test)) for test in tests]
        faults = [self.compare(solution, test) for test in tests]
        shown = [fault and f"{fault} (F1 {grade:.2f})" for fault, grade in zip(faults, grades, strict=True)]
        return Examined(shown, grades=grades)

    def grade(self, solution: str, accepted: Sequence[str]) -> float:
        """F1 with one accepted answer, in [0, 1]."""
        found, expected = normalize_answer(solution), normalize_answer(" ".join(accepted))
        if found != expected and (found in _YES_NO or expected in _YES_NO):
            return 0.0
        return word_f1(found.split(), expected.split())
