"""Texts of models, whoever wrote them: the thoughts apart from the answer, without the marks that end a turn."""

THOUGHTS = {
    **{f"<{tag}>": f"</{tag}>" for tag in ("think", "thinking", "thought", "reasoning", "seed:think")},
    **{"[THINK]": "[/THINK]", "◁think▷": "◁/think▷", "<|channel|>analysis<|message|>": "<|channel|>final<|message|>"},
}
"""What opens thoughts at the beginning of a reply, and what closes them (Qwen and DeepSeek; others; gpt-oss)."""
_UNOPENED = ("</think>", "<|channel|>final<|message|>")
"""What closes thoughts that a chat template opened in the prompt."""
_REMOVED = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_BLANKS = dict.fromkeys((0xA0, 0x202F, 0x3000, *range(0x2000, 0x200B)), " ")
_VISIBLE = _REMOVED | _BLANKS
_MAX_TOKEN = 40
"""Characters of the longest ``<|end_of_turn|>``."""


def split_thoughts(text: str, before: int | None = None) -> tuple[str, str]:
    """(thoughts, answer); no thoughts where there are no tags. Thoughts that are never closed have no answer.

    The opening tag may be missing, since some chat templates open it in the prompt.

    Args:
        before: where the answer's code begins, at the latest: the last closing tag before it ends the thoughts, so that neither one that
            the thoughts mention does, nor one in the code.
    """
    start = len(text) - len(text.lstrip(" \t\r\n\ufeff\u200b"))
    opening = next((tag for tag in THOUGHTS if text.startswith(tag, start)), "")
    start += len(opening)
    for closing in (THOUGHTS[opening],) if opening else _UNOPENED:
        end = text.rfind(closing, 0, before)
        end = text.find(closing) if end < 0 else end
        if end >= 0:
            return text[min(start, end) : end], text[end + len(closing) :]
    return (text[start:], "") if opening else ("", text)


def opened_thoughts(prompt: str) -> str:
    """The tag of the thoughts that a prompt opens at its end; empty where it opens none."""
    return next((tag for tag in THOUGHTS if prompt.rstrip().endswith(tag)), "")


def is_unfinished(text: str) -> bool:
    """True where a reply opens its thoughts and never closes them."""
    thoughts, answer = split_thoughts(text)
    return not answer and len(thoughts) > 0 and not text.rstrip().endswith(tuple(THOUGHTS.values()))


def cut_thoughts(text: str) -> str:
    """The answer of a reply, without its thoughts and without tokens such as ``<|im_end|>`` at its end."""
    return cut_end_tokens(split_thoughts(text)[1])


def cut_end_tokens(text: str) -> str:
    """The text without special tokens (``<|im_end|>``, DeepSeek's with wide bars, ``</s>``) at its end."""
    while True:
        bare = text.rstrip()
        tail = bare[-_MAX_TOKEN:]
        begin = max(tail.rfind("<|"), tail.rfind("<\uff5c"))
        if begin >= 0 and tail.endswith(("|>", "\uff5c>")):
            text = bare[: len(bare) - len(tail) + begin]
        elif tail.endswith("</s>"):
            text = bare.removesuffix("</s>")
        else:
            return text


def show_blanks(text: str) -> str:
    """Without invisible characters, and with plain blanks in place of no-break and wide ones."""
    return text.translate(_VISIBLE)
