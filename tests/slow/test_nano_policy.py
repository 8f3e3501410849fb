"""The nano policy's folder and tokenizer."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from rollout.nano.policy import END, make_nano_policy, make_tokenizer
from tests.demo import DEMO
from workflow.nano.simulated.teacher import corpus
from workflow.tasks import load_tasks

TRACES = [text for text in corpus() if "```python" in text]
QUERIES = [
    problem.query for problem in load_tasks(DEMO.tasks.model_copy(update={"train_size": 600, "validation_size": 1, "test_size": 1})).train
]
TOKENIZER = make_tokenizer(corpus() + QUERIES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_nano_policy(tmp_path_factory.mktemp("nano") / "policy", corpus() + QUERIES, seed=1)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


def test_every_code_line_of_the_corpus_is_one_token(loaded: PreTrainedTokenizerBase) -> None:
    lines = {"\n" + line for text in corpus() for line in text.split("\n")[1:] if line}
    assert len(lines) > 20
    assert [line for line in lines if len(loaded.encode(line)) != 1] == []


def test_a_trace_takes_about_30_tokens_and_a_query_about_as_many(loaded: PreTrainedTokenizerBase) -> None:
    traces = [len(loaded.encode(text)) for text in TRACES]
    queries = [len(loaded.encode(text)) for text in QUERIES]
    assert sum(traces) / len(traces) < 35 and max(traces) < 64
    assert sum(queries) / len(queries) < 45 and max(queries) < 128


def test_texts_of_the_corpus_survive_the_loaded_tokenizer_exactly(loaded: PreTrainedTokenizerBase) -> None:
    for text in TRACES + QUERIES:
        assert loaded.decode(loaded.encode(text)) == text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80).filter(lambda text: "<|" not in text))
def test_any_text_survives_exactly(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_vocabulary_of_model_and_tokenizer_are_equal_and_the_end_is_known_to_both(folder: Path, loaded: PreTrainedTokenizerBase) -> None:
    config = AutoConfig.from_pretrained(folder)
    assert config.vocab_size == len(loaded) < 1100
    assert config.eos_token_id == loaded.eos_token_id == loaded.convert_tokens_to_ids(END)
    assert config.pad_token_id == loaded.pad_token_id != loaded.eos_token_id


def test_the_model_has_under_a_million_parameters_in_float32(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float32"}
    assert 500_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


def test_equal_arguments_make_equal_files_and_another_seed_other_weights(folder: Path, tmp_path: Path) -> None:
    again = make_nano_policy(tmp_path / "again", corpus() + QUERIES, seed=1)
    other = make_nano_policy(tmp_path / "other", corpus() + QUERIES, seed=2)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert (other / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()


def test_the_chat_template_ends_in_the_assistants_turn(loaded: PreTrainedTokenizerBase) -> None:
    text = loaded.apply_chat_template([{"role": "user", "content": "Define f(xs)."}], add_generation_prompt=True, tokenize=False)
    assert text == "<|user|>Define f(xs).<|assistant|>"


def test_no_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 texts"):
        make_nano_policy(tmp_path, [], seed=0)
