"""The meta-prompt: what the policy reads before it writes a workflow."""

from transformers import PreTrainedTokenizerBase

from rollout.settings import ModelSettings
from workflow.checks import ALLOWED_MODULES
from workflow.operators import catalogue
from workflow.problem import Problem, Verifier
from workflow.reference import load_reference_workflows

EXAMPLE = "test_and_revise_2"
"""Reference workflow that the full meta-prompt shows."""

FULL = """You design a multi-agent workflow for one query. Worker agents will solve the query by running it; \
you do not solve the query yourself.

Reason first, briefly: how hard is the query, and which checks are possible? Then write the workflow as one Python code block \
that defines `class Workflow` with `async def __call__(self, problem)`. Every worker call costs money: use as many as the query \
needs and no more.

Rules of the language:
- `__call__` returns {answer}.
- Operators are methods of `self`; each call of one is awaited, several at once with `asyncio.gather`.
- Loops, conditions, local functions and helper methods are allowed. Give every loop a bound.
- `problem` has `.query`, `.entry_point` and `.public_tests`; it can be passed as it is wherever an operator takes a problem.
- Imports: {modules}. No files, no network, no names or attributes with leading underscores, no `eval` or `exec`.

Operators:
{operators}

An example of a workflow:
```python
{example}
```

<query>
{query}
</query>{examples}"""


ANSWERS: dict[Verifier, str] = {
    "function": "the final solution as a text of Python code that defines `{entry_point}`",
    "unittest": "the final solution as a text of Python code that defines `{entry_point}`, with its imports",
    "stdio": "the final solution as a text: a whole Python program that reads standard input and writes standard output",
    "number": "the final answer as a text that ends on the number, for example `#### 42`",
}
"""What a workflow's answer is, by the problem's verifier."""


class MetaPrompt:
    """Writes a problem as prompt tokens, through the tokenizer's chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings) -> None:
        """
        Raises:
            ValueError: the tokenizer has no chat template.
        """
        if not tokenizer.chat_template:
            raise ValueError(
                f"The tokenizer of model.path={settings.path!r} has no chat template: use an instruction-tuned model, "
                "or add chat_template to its tokenizer_config.json."
            )
        self._tokenizer = tokenizer
        self._settings = settings

    def render(self, problem: Problem) -> tuple[int, ...]:
        """Prompt token ids that end where the policy's turn begins.

        Raises:
            ValueError: the prompt is longer than ``max_prompt_tokens``.
        """
        chat = [{"role": "user", "content": self.text(problem)}]
        text = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        ids = self._tokenizer.encode(str(text), add_special_tokens=False)
        limit = self._settings.max_prompt_tokens
        if len(ids) > limit:
            raise ValueError(
                f"The {self._settings.meta_prompt} meta-prompt of problem {problem.id} has {len(ids)} tokens, more than "
                f"model.max_prompt_tokens={limit}: raise that setting to {len(ids)} or leave the problem out."
            )
        return tuple(ids)

    def text(self, problem: Problem) -> str:
        """The user's message: the query alone, or with instructions around it."""
        if self._settings.meta_prompt == "brief":
            return problem.query
        tests = "\n".join(problem.public_tests)
        return FULL.format(
            answer=ANSWERS[problem.verifier].format(entry_point=problem.entry_point),
            modules=", ".join(sorted(ALLOWED_MODULES)),
            operators=catalogue(),
            example=load_reference_workflows()[EXAMPLE].source,
            query=problem.query,
            examples=f"\n<public_tests>\n{tests}\n</public_tests>" if tests else "",
        )
