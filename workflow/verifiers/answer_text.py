"""Final answers as texts: where they stand, exact match and F1 as SQuAD, HotpotQA and DROP measure them, and multiple choice."""

import json
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from workflow.problem import Problem
from workflow.verifiers.runner import Examined, Runner
from workflow.verifiers.verifier import Verifier

MAX_CHARACTERS = 20_000
"""Only the end of a longer answer is read."""
_TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_MARKED = re.compile(r"(?:####|\bfinal answer\b|\banswer\b)[ \t*]{0,9}(?:is\b|:|=)?[ \t*:]{0,9}(.+)", re.IGNORECASE)
_LETTER = r"[\s*_(\[{$]{0,9}(?:\\(?:boxed|text|textbf|mathrm)\{\s?){0,2}\(?([A-J])\b"
_LETTER_MARKED = re.compile(
    rf"(?i:####|\\boxed\{{|\b(?:answer|option|choice)\b(?:\s(?:is|would be|must be)\b)?\s?:?){_LETTER}(?!')(?!\s[a-z])", re.ASCII
)
_LETTER_ALONE = re.compile(r"[\s*_(\[{$]{0,9}(?:\\(?:boxed|text)\{\s?){0,2}\(?([A-J])[\s*_.)\]}$]{0,9}", re.ASCII)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_YES_NO = ("yes", "no", "noanswer")


def read_final_answer(text: str) -> str:
    """What stands between the last ``<answer>`` tags, else behind the last "answer is", "Answer:" or ``####``; else the whole text."""
    end = text[-MAX_CHARACTERS:].rpartition("</think>")[2]
    if found := _TAGGED.findall(end):
        return found[-1].strip()
    marked = [match[1] for line in end.splitlines() if (match := _MARKED.search(line))]
    return (marked[-1] if marked else end).strip().strip("*").strip()


def normalize_answer(text: str) -> str:
    """SQuAD's: lower case, without punctuation and articles, blanks as one."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


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
        found = normalize_answer(solution)
        right = any(found == normalize_answer(" ".join(accepted)) for accepted in read_accepted(test))
        return None if right else "the answer is not the expected one"


class F1Verifier(ExactMatchVerifier):
    """The same tests, graded by the words that answer and expected text share (SQuAD 1.1, HotpotQA); only a whole match passes."""

    async def examine(self, runner: Runner, problem: Problem, answer: str, tests: Sequence[str]) -> Examined:
        solution = self.read_solution(answer, problem)
        grades = [max(self.grade(solution, accepted) for accepted in read_accepted(test)) for test in tests]
        return Examined([None if grade == 1 else f"the answer has F1 {grade:.2f}" for grade in grades], grades=grades)

    def grade(self, solution: str, accepted: Sequence[str]) -> float:
        """F1 with one accepted answer, in [0, 1]."""
        found, expected = normalize_answer(solution), normalize_answer(" ".join(accepted))
        if found != expected and (found in _YES_NO or expected in _YES_NO):
            return 0.0
        return word_f1(found.split(), expected.split())


class DropVerifier(F1Verifier):
    """F1 as DROP's own evaluator has it (Dua et al. 2019): a number must be right, and each of several spans counts."""

    def grade(self, solution: str, accepted: Sequence[str]) -> float:
        found = _drop_words(solution)
        best = max(self._span_f1(found, _drop_words(span)) for span in accepted)
        return best / len(accepted)

    @staticmethod
    def _span_f1(found: Sequence[str], expected: Sequence[str]) -> float:
        numbers = {word for word in expected if _as_float(word) is not None}
        if numbers and not numbers & set(found):
            return 0.0
        return word_f1(sorted(set(found)), sorted(set(expected)))


def _drop_words(text: str) -> list[str]:
    words = re.split(r"[ \-\n]", text)
    plain = [word.lower() if _as_float(word) is not None else word.lower().translate(_PUNCTUATION) for word in words]
    return [str(_as_float(word)) if _as_float(word) is not None else word for word in _ARTICLES.sub(" ", " ".join(plain)).split()]


def _as_float(word: str) -> float | None:
    try:
        return float(word) if len(word) < 40 else None
    except ValueError:
        return None


class ChoiceVerifier(Verifier):
    """Multiple choice: the test is the letter of the right option, A to J."""

    form = "Reason as you need to, then end with a line `Answer: X`, where X is the letter of the right option."
    answer = "the final answer as a text that ends on the letter of the right option, for example `Answer: C`"

    def compare(self, solution: str, test: str) -> str | None:
        found = read_letter(solution)
        if found == test.strip().upper():
            return None
        return "the answer names no option" if found is None else "the option is not the right one"

    def controls(self, problem: Problem) -> Mapping[str, str]:
        letters = "ABCDEFGHIJ"
        listed = {"all letters": " ".join(letters), "all letters as answers": "\n".join(f"({letter})" for letter in letters)}
        return {"an empty answer": "", **listed}


def read_letter(text: str) -> str | None:
    """The option that an answer chooses: the last that is marked as the answer, else one that stands alone in the last line."""
    end = text[-MAX_CHARACTERS:].rpartition("</think>")[2]
    tagged = _TAGGED.findall(end)
    if tagged and (alone := _LETTER_ALONE.fullmatch(tagged[-1])):
        return alone[1]
    if marked := _LETTER_MARKED.findall(end):
        return marked[-1]
    lines = [line for line in end.splitlines() if line.strip()]
    alone = _LETTER_ALONE.fullmatch(lines[-1]) if lines else None
    is_listed = len(lines) > 1 and _LETTER_ALONE.fullmatch(lines[-2]) is not None
    return alone[1] if alone and not is_listed else None
