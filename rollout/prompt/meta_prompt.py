"""The meta-prompt: what the policy reads before it writes a workflow."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from rollout.prompt.facts import PromptFacts, shown
from rollout.prompt.template import PromptTemplate
from rollout.settings import ModelSettings
from workflow.language.checks import ALLOWED_MODULES, FORBIDDEN_NAMES
from workflow.operators import catalogue
from workflow.problem import Problem
from workflow.reference import load_reference_workflows
from workflow.text import opened_thoughts
from workflow.verifiers import find_verifier

EXAMPLE = "test_and_revise_2"
"""Reference workflow that meta-prompts show."""

DEFAULT_FACTS = PromptFacts()
MARK = "@@completion@@"
"""Stands for a completion where a chat template is asked for what follows one."""


class MetaPrompt:
    """Writes a problem, and the feedback between rounds, as tokens, through the tokenizer's chat template."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        settings: ModelSettings,
        max_feedback_tokens: int = 128,
        facts: PromptFacts = DEFAULT_FACTS,
    ) -> None:
        """
        Args:
            max_feedback_tokens: length of a feedback turn, ``rollout.max_feedback_tokens``.
            facts: what the prompts say of the run.

        Raises:
            ValueError: the tokenizer has no chat template, or the setting names no prompt that can be used.
        """
        if not tokenizer.chat_template:
            raise ValueError(
                f"The tokenizer of model.path={settings.path!r} has no chat template: use an instruction-tuned model, "
                "or add chat_template to its tokenizer_config.json."
            )
        self.tokenizer = tokenizer
        self._settings = settings
        self._template = PromptTemplate("model.meta_prompt", settings.meta_prompt)
        self.name = self._template.name
        """Of the template, for messages."""
        self.facts = facts
        self._max_feedback_tokens = max_feedback_tokens

    @property
    def opened(self) -> str:
        """The tag of the thoughts inside which the chat template ends a prompt (``<think>``, as R1's do); empty where it does not."""
        chat = [{"role": "user", "content": "?"}]
        return opened_thoughts(str(self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)))

    def ids(self, problems: Sequence[Problem]) -> list[list[int]]:
        """Prompt token ids of each problem, however long."""
        chats = [[{"role": "user", "content": self.text(problem)}] for problem in problems]
        texts = [str(self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)) for chat in chats]
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"] if texts else []  # pyright: ignore[reportReturnType]

    def render(self, problem: Problem) -> tuple[int, ...]:
        """Prompt token ids that end where the policy's turn begins.

        Raises:
            ValueError: the prompt is longer than ``max_prompt_tokens``.
        """
        (ids,) = self.ids([problem])
        limit = self._settings.max_prompt_tokens
        if len(ids) > limit:
            raise ValueError(
                f"The {self.name} meta-prompt of problem {problem.id} has {len(ids)} tokens, more than "
                f"model.max_prompt_tokens={limit}: raise that setting to {len(ids)} or leave the problem out."
            )
        return tuple(ids)

    def feedback(self, text: str, *, ended: bool) -> tuple[int, ...]:
        """Token ids between two completions: the end of the policy's turn, ``text`` as the user's turn, the start of the next one.

        The conversation so far is never tokenised again; these ids are appended to it. A text that does not fit
        ``max_feedback_tokens`` is cut in the middle.

        Args:
            ended: True where the completion sampled its own end-of-text token, which is then not repeated.

        Raises:
            ValueError: the chat template alone takes more than ``max_feedback_tokens``.
        """
        ids = self._turn(text, ended)
        words = self.tokenizer.encode(text, add_special_tokens=False)
        kept = len(words)
        while len(ids) > self._max_feedback_tokens:
            kept -= max(1, len(ids) - self._max_feedback_tokens)
            if kept <= 0:
                raise ValueError(
                    f"rollout.max_feedback_tokens={self._max_feedback_tokens} does not even hold the chat template's turn of "
                    f"{len(self._turn('', ended))} tokens: raise it."
                )
            head, tail = words[: kept - kept // 2], words[len(words) - kept // 2 :]
            ids = self._turn(f"{self.tokenizer.decode(head)} ... {self.tokenizer.decode(tail)}", ended)
        return tuple(ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of the policy's tokens, without special ones, as engines give it."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def _turn(self, text: str, ended: bool) -> tuple[int, ...]:
        """The chat template's tokens after an assistant message, up to the next one."""
        chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}, {"role": "user", "content": text}]
        whole = str(self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
        ids = self.tokenizer.encode(whole.rpartition(MARK)[2], add_special_tokens=False)
        return tuple(ids[1:] if ended and ids[:1] == [self.tokenizer.eos_token_id] else ids)

    def text(self, problem: Problem) -> str:
        """The user's message."""
        return prompt_text(self._template, problem, self.facts)


def prompt_text(template: PromptTemplate, problem: Problem, facts: PromptFacts = DEFAULT_FACTS) -> str:
    """A problem as a template shows it; nothing of its hidden tests or its reference is in reach."""
    verifier = find_verifier(problem.verifier)
    return template.render(
        query=problem.query,
        entry_point=problem.entry_point,
        public_tests=problem.public_tests,
        answer=verifier.answer.format(entry_point=problem.entry_point),
        operators=catalogue(is_code=verifier.is_code),
        modules=", ".join(sorted(ALLOWED_MODULES)),
        forbidden=", ".join(f"`{name}`" for name in sorted(FORBIDDEN_NAMES)),
        example=_without_docstring(load_reference_workflows()[EXAMPLE].source),
        **shown(facts),
    )


def _without_docstring(source: str) -> str:
    """A reference's source without the text in front of its class, which cites its paper."""
    return source[source.index("class Workflow") :]
