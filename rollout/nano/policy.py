"""The nano policy: a Qwen3 of under a million parameters with a tokenizer of its own, made on the spot.

It is an ordinary Hugging Face folder, so engine and learner treat it like any other model. Its tokenizer keeps a whole
code line (newline, indentation, code) in one token where that line is in the texts, so that a completion takes about
30 tokens; every other text still encodes without loss, byte by byte at worst.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as InTurn
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from rollout.prompt.feedback import feedback_corpus
from rollout.settings import RolloutSettings
from workflow.nano.simulated.teacher import corpus
from workflow.tasks import TaskSet

USER, ASSISTANT, END, PAD = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}{{- '<|assistant|>' + message['content'] + '<|end|>' -}}"
    "{%- else -%}{{- '<|user|>' + message['content'] -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)

# A line with its newline; a word; one or two digits with their sign and separator; a run of signs; other white space.
_UNITS = r"\n[^\n]*|(?:, | )?-?[0-9]{1,2}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s|\p{N}"
_MAX_WORD_ENTRIES = 2048
_CODE_WEIGHT = 4  # lines of rare workflows must not lose their last merges to the prompts' numbers


def nano_policy(folder: Path, tasks: TaskSet, rollout: RolloutSettings, seed: int) -> None:
    """The policy as ``rollout.policies`` asks for it: its tokenizer knows the teacher's workflows and the words of the queries."""
    texts = corpus() + [problem.query for problem in tasks.train[:2000]]
    texts += feedback_corpus() if rollout.rounds > 1 else []
    make_nano_policy(folder, texts, seed)


def make_nano_policy(folder: Path, texts: Sequence[str], seed: int) -> Path:
    """Writes config, random float32 weights (safetensors) and tokenizer to ``folder``.

    Args:
        texts: workflow sources, traces and queries that the tokenizer learns its units from.
        seed: of the weights; equal arguments make equal files.

    Raises:
        ValueError: no texts.
    """
    import torch
    from huggingface_hub import save_torch_state_dict
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = make_tokenizer(texts)
    config = Qwen3Config(
        vocab_size=len(tokenizer),  # equal on purpose: learners mask logits beyond the tokenizer, engines do not
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.get_vocab()[END],
        pad_token_id=tokenizer.get_vocab()[PAD],
        dtype="float32",
        architectures=["Qwen3ForCausalLM"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config).float()
    folder.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)  # pyright: ignore[reportOptionalMemberAccess]
    # Not the model's save_pretrained, which imports DeepSpeed where it is installed.
    save_torch_state_dict({name: tensor.detach() for name, tensor in model.named_parameters()}, folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE with as many merges as make every code line of ``texts`` one token, and no more words than occur twice.

    Raises:
        ValueError: no texts.
    """
    if not texts:
        raise ValueError("make_nano_policy got 0 texts: pass workflow sources and queries for the tokenizer to learn from.")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = InTurn([Split(Regex(_UNITS), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=_MAX_WORD_ENTRIES,
        min_frequency=2,
        show_progress=False,
        special_tokens=[PAD, END, USER, ASSISTANT],
        initial_alphabet=sorted(ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(_repeat_code(texts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def _repeat_code(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield from [text] * (_CODE_WEIGHT if "\n" in text else 1)
