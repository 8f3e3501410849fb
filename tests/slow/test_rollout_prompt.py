"""The meta-prompt."""

import copy
from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerFast

from rollout.nano.policy import CHAT_TEMPLATE, make_tokenizer
from rollout.prompt.meta_prompt import MetaPrompt
from tests.demo import demo_model
from workflow.language.parse import parse_workflow
from workflow.nano.simulated.teacher import corpus
from workflow.operators import OPERATORS
from workflow.problem import Problem
from workflow.program import Workflow

PROBLEM = Problem(
    id="nano/train/1",
    query="Define f(xs) that reverses the list.",
    entry_point="f",
    public_tests=("assert candidate([1, 2]) == [2, 1]",),
    hidden_tests=("assert candidate([31, 47]) == [47, 31]",),
    reference="def f(xs):\n    return xs[::-1]\n",
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer([*corpus(), PROBLEM.query])


def test_the_brief_prompt_is_the_query_between_the_turns_of_the_chat(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = MetaPrompt(tokenizer, demo_model()).render(PROBLEM)
    assert tokenizer.decode(ids) == f"<|user|>{PROBLEM.query}<|assistant|>"
    assert tokenizer.eos_token_id not in ids


def test_the_full_prompt_names_every_operator_that_fits_the_query_and_its_public_tests(tokenizer: PreTrainedTokenizerFast) -> None:
    text = MetaPrompt(tokenizer, demo_model(meta_prompt="full")).text(PROBLEM)
    assert [name for name in OPERATORS if f"self.{name}(" not in text] == ["answer", "program", "format"]
    assert PROBLEM.query in text and PROBLEM.public_tests[0] in text and "`f`" in text


def test_the_full_prompt_shows_an_example_that_the_parser_accepts(tokenizer: PreTrainedTokenizerFast) -> None:
    text = MetaPrompt(tokenizer, demo_model(meta_prompt="full")).text(PROBLEM)
    assert isinstance(parse_workflow(text), Workflow)


@pytest.mark.parametrize("kind", ["brief", "full", "reasoning"])
def test_no_prompt_shows_hidden_tests_or_the_reference(tokenizer: PreTrainedTokenizerFast, kind: str) -> None:
    settings = demo_model(meta_prompt=kind, max_prompt_tokens=8192)
    text = tokenizer.decode(MetaPrompt(tokenizer, settings).render(PROBLEM))
    assert "31" not in text and "xs[::-1]" not in text


def test_without_public_tests_the_full_prompt_has_no_place_for_them(tokenizer: PreTrainedTokenizerFast) -> None:
    text = MetaPrompt(tokenizer, demo_model(meta_prompt="full")).text(replace(PROBLEM, public_tests=()))
    assert text.endswith("</query>") and "<public_tests>" not in text


@pytest.mark.parametrize(("ending", "opened"), [("<think>\n", "<think>"), ("", ""), ("<think>\n\n</think>\n", "")])
def test_a_chat_template_tells_which_thoughts_it_opens(tokenizer: PreTrainedTokenizerFast, ending: str, opened: str) -> None:
    thinking = copy.copy(tokenizer)
    thinking.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>" + ending + "{% endif %}"
    assert MetaPrompt(thinking, demo_model()).opened == opened


def test_braces_in_a_query_pass_unchanged(tokenizer: PreTrainedTokenizerFast) -> None:
    query = 'Return {"a": {0}} and {query}.'
    assert query in MetaPrompt(tokenizer, demo_model(meta_prompt="full")).text(replace(PROBLEM, query=query))


def test_a_prompt_that_is_too_long_is_refused_with_its_length(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match=r"nano/train/1 has \d+ tokens, more than model.max_prompt_tokens=8: raise"):
        MetaPrompt(tokenizer, demo_model(max_prompt_tokens=8)).render(PROBLEM)


def test_a_tokenizer_without_chat_template_is_refused() -> None:
    bare = make_tokenizer(corpus())
    bare.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        MetaPrompt(bare, demo_model())


QWEN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- ('<|assistant|>' if message['role'] == 'assistant' else '<|user|>') + '\\n' + message['content'] + '<|end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"
)
"""The shape of Qwen's: the end-of-turn token is followed by a newline that the policy never samples."""


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, QWEN_TEMPLATE])
def test_a_conversation_appended_turn_by_turn_is_the_template_of_the_whole(tokenizer: PreTrainedTokenizerFast, template: str) -> None:
    tokenizer.chat_template = template
    try:
        prompt = MetaPrompt(tokenizer, demo_model())
        sampled = tokenizer.encode("Plan: draft once.", add_special_tokens=False)
        ids = [*prompt.render(PROBLEM), *sampled, tokenizer.eos_token_id, *prompt.feedback("Round 1 of 3: it crashed.", ended=True)]
        roles = [("user", PROBLEM.query), ("assistant", "Plan: draft once."), ("user", "Round 1 of 3: it crashed.")]
        chat = [{"role": role, "content": content} for role, content in roles]
        assert tokenizer.decode(ids) == tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    finally:
        tokenizer.chat_template = CHAT_TEMPLATE


def test_a_completion_that_was_cut_off_gets_its_end_of_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = MetaPrompt(tokenizer, demo_model())
    assert prompt.feedback("Again.", ended=False) == (tokenizer.eos_token_id, *prompt.feedback("Again.", ended=True))


def test_long_feedback_is_cut_in_the_middle_to_the_tokens_it_may_take(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "Round 1 of 3: 0 of 9 public tests passed.\n" + "assert f([12345]) == [54321]\n" * 30 + "Write the next workflow."
    ids = MetaPrompt(tokenizer, demo_model(), max_feedback_tokens=60).feedback(text, ended=False)
    shown = tokenizer.decode(ids)
    assert 40 <= len(ids) <= 60 and " ... " in shown
    assert shown.startswith("<|end|><|user|>Round 1 of 3") and shown.endswith("next workflow.<|assistant|>")


def test_feedback_that_can_never_fit_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match=r"rollout.max_feedback_tokens=2 does not even hold the chat template's turn of 3 tokens"):
        MetaPrompt(tokenizer, demo_model(), max_feedback_tokens=2).feedback("Again.", ended=False)
