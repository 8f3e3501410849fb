# ruff: noqa: RUF001 (DeepSeek's markers)
"""Tokenizers with published chat templates: every byte is a token, so that a text and its tokens say the same."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

R1_DISTILL = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}"
    "{%- endfor %}{{bos_token}}{{ns.system_prompt}}"
    "{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}"
    "{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
    "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"
)
"""Of deepseek-ai/DeepSeek-R1-Distill-Qwen-7B (MIT), without its tools."""

QWEN = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or "
    "(message.role == 'assistant') %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""Of Qwen/Qwen2.5-7B-Instruct (Apache-2.0), without its tools."""


def bytes_tokenizer(template: str, *marks: str, end: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with these special tokens beside ``end``, which ends a text."""
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, clean_up_tokenization_spaces=False)
    made.add_special_tokens({"additional_special_tokens": list(marks)})
    made.chat_template = template
    return made


def r1_distill() -> PreTrainedTokenizerFast:
    """DeepSeek-R1-Distill's chat: its template opens ``<think>``."""
    tokenizer = bytes_tokenizer(R1_DISTILL, "<｜User｜>", "<｜Assistant｜>", end="<｜end▁of▁sentence｜>")
    tokenizer.add_special_tokens({"bos_token": "<｜begin▁of▁sentence｜>"})
    return tokenizer


def qwen() -> PreTrainedTokenizerFast:
    """Qwen2.5's chat, which knows no thoughts."""
    return bytes_tokenizer(QWEN, "<|im_start|>", end="<|im_end|>")
