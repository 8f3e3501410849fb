"""Which tokens wrote which lines."""

from collections.abc import Sequence

from rollout.groups.token_spans import WrittenTokens
from rollout.nano.policy import make_tokenizer
from workflow.language.parse import find_source
from workflow.nano.simulated.teacher import corpus

CODE = """class Workflow:
    async def __call__(self, problem):
        answer = await self.generate(problem)
        report = await self.review(problem, answer)
        if not report.approved:
            answer = await self.revise(
                problem, answer, report.feedback
            )
        return answer"""


class Bytes:
    """A token a byte, so that a character may take four of them; 256 is a special token."""

    def encode(self, text: str) -> tuple[int, ...]:
        return (*text.encode(), 256)

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(one for one in ids if one < 256).decode("utf-8", "replace")


def written(text: str, lines: tuple[int, int]) -> str:
    """The text of exactly the tokens that wrote these lines, a token a byte."""
    ids, tokens = Bytes().encode(text), Bytes()
    source = find_source(text)
    assert source is not None
    span = WrittenTokens(ids, text, tokens.decode).span(source, lines)
    assert span is not None
    return tokens.decode(ids[slice(*span)])


def test_a_line_is_written_by_its_characters_and_no_others():
    assert written(f"Plan.\n```python\n{CODE}\n```\nDone.", (4, 4)) == "        report = await self.review(problem, answer)"


def test_a_call_over_several_lines_has_them_all():
    span = written(f"```python\n{CODE}\n```", (6, 8))
    assert span == "            answer = await self.revise(\n                problem, answer, report.feedback\n            )"


def test_characters_of_several_bytes_before_and_within_do_not_shift_the_span():
    code = CODE.replace("report.feedback", "'prüfe 🦉 日本'")
    assert written(f"Überlegung 🦉🦉 日本語\n```python\n{code}\n```", (7, 7)).strip() == "problem, answer, 'prüfe 🦉 日本'"


def test_code_that_the_thoughts_draft_earns_nothing():
    text = f"<think>\n```python\n{CODE}\n```\nAgain.\n</think>\n```python\n{CODE}\n```"
    tokens = Bytes()
    span = WrittenTokens(tokens.encode(text), text, tokens.decode).span(CODE, (3, 3))
    assert span is not None and span[0] > len(text.partition("</think>")[0])
    assert written(text, (3, 3)) == "        answer = await self.generate(problem)"


def test_an_indented_block_is_found():
    indented = "\n".join(f"  {line}" for line in CODE.split("\n"))
    assert written(f"1. So:\n  ```python\n{indented}\n  ```", (3, 3)) == "          answer = await self.generate(problem)"


def test_the_nano_tokenizer_writes_a_line_with_one_token():
    tokenizer = make_tokenizer(corpus())
    text = f"Plan: ü.\n```python\n{CODE}\n```"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    span = WrittenTokens(ids, text, lambda some: str(tokenizer.decode(list(some), skip_special_tokens=True))).span(CODE, (3, 3))
    assert span is not None and span[1] == span[0] + 1
    assert tokenizer.decode(ids[slice(*span)]) == "\n        answer = await self.generate(problem)"


def test_the_last_line_ends_before_the_end_of_text_token():
    tokens, ids = Bytes(), Bytes().encode(CODE)
    span = WrittenTokens(ids, CODE, tokens.decode).span(CODE, (9, 9))
    assert span is not None and span[1] == len(ids) - 1 and tokens.decode(ids[slice(*span)]) == "        return answer"


def test_a_character_that_begins_the_line_has_all_its_tokens():
    text = "ä\nü = 1"
    tokens, ids = Bytes(), Bytes().encode(text)
    assert WrittenTokens(ids, text, tokens.decode).span(text, (2, 2)) == (3, len(ids) - 1)


def test_tokens_of_another_text_and_a_source_that_does_not_stand_there_have_no_span():
    tokens = Bytes()
    assert WrittenTokens(tokens.encode("abc"), "abd", tokens.decode).span("abd", (1, 1)) is None
    assert WrittenTokens(tokens.encode("abc"), "abc", tokens.decode).span(CODE, (1, 1)) is None


def test_a_completion_that_was_cut_off_within_a_character_has_its_spans():
    tokens, ids = Bytes(), "a\nbü".encode()[:4]
    assert WrittenTokens(ids, "a\nb\ufffd", tokens.decode).span("a\nb\ufffd", (2, 2)) == (2, 4)
