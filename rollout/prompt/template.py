"""Prompts as template files (Jinja): those of this package by name, and a user's own.

A setting holds a name, the path of a file, or a template's text, which has ``{{``. ``with_text`` puts a file's text in place of its
path when settings are loaded: so a run's config.yaml has what the policy reads, whatever becomes of the file.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rollout.prompt.facts import PromptFacts, shown
from workflow.registry import Registry, load_plugins, nearest
from workflow.worker.crew import WorkerCard

FOLDER = Path(__file__).parent / "templates"
PROMPTS: Registry[Path] = Registry(
    "model.meta_prompt", {file.stem: file for file in sorted(FOLDER.glob("*.jinja"))}, is_one=lambda found: isinstance(found, Path)
)
"""Template files by name."""
_WORKERS = (WorkerCard("default", "m", 0.15, 0.6), WorkerCard("large", "l", 2.5, 10.0, "harder problems"))
PLACEHOLDERS: Mapping[str, Any] = {
    "query": "Write f(xs).",
    "entry_point": "f",
    "public_tests": ("assert f([1]) == 1",),
    "answer": "the final solution as a text",
    "operators": "- await self.generate(problem: str) -> str",
    "modules": "asyncio, math",
    "forbidden": "`eval`, `exec`",
    "example": "class Workflow: ...",
    **shown(PromptFacts(worker="a-model", worker_price="$1 per million tokens", rounds=2, workers=_WORKERS)),
}
"""What a template may show, each with a value to try it with. ``public_tests`` is a list; ``answer`` says what a workflow returns;
``operators`` is the catalogue as far as it fits the problem, ``modules`` what a workflow may import, ``forbidden`` which names it may not
use, ``example`` the source of one. The others are fields of ``rollout.prompt.facts.PromptFacts``."""
_JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined)


def with_text(value: str) -> str:
    """The text of a template file in place of its path; anything else as it is."""
    if not _is_text(value) and value not in PROMPTS:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return Path(value).expanduser().read_text(encoding="utf-8")
    return value


def _is_text(value: str) -> bool:
    return "{{" in value or "\n" in value


class PromptTemplate:
    """A template that has been read and tried."""

    def __init__(self, setting: str, value: str) -> None:
        """
        Args:
            setting: the setting's name, for messages.
            value: a prompt's name, a path, or a template's text.

        Raises:
            ValueError: it is none of these, or no template of a prompt; one sentence.
        """
        load_plugins()
        self.name = value if value in PROMPTS else "own"
        """In words."""
        text = PROMPTS.find(value).read_text(encoding="utf-8") if value in PROMPTS else with_text(value)
        if text == value and not _is_text(value):
            near = nearest(value, PROMPTS)
            hint = f"; the nearest is {near}" if near else ""
            raise ValueError(
                f"{setting}={value} is neither a prompt's name nor a template file of UTF-8 text{hint}: name one of {', '.join(PROMPTS)}, "
                "or give the path of a file."
            )
        try:
            used = meta.find_undeclared_variables(_JINJA.parse(text))
            self._template = _JINJA.from_string(text)
            if not (unknown := sorted(used - set(PLACEHOLDERS))):
                self.render(**PLACEHOLDERS)
        except (TemplateError, TypeError, ValueError) as error:
            raise ValueError(f"{setting}: the template cannot be used ({type(error).__name__}: {error}): correct it.") from None
        if unknown:
            near = nearest(unknown[0], PLACEHOLDERS)
            remedy = f"did you mean {near}?" if near else f"there are {', '.join(PLACEHOLDERS)}."
            raise ValueError(f"{setting}: the template has {{{{ {unknown[0]} }}}}, which no prompt is given; {remedy}")
        if "query" not in used:
            raise ValueError(f"{setting}: the template lacks {{{{ query }}}}, so the policy would not know what it is asked: put it in.")
        if "${" in text:
            raise ValueError(f"{setting}: the template has '${{', which settings read as a reference: write {{{{ '$' }}}}{{ instead.")

    def render(self, **values: Any) -> str:
        """The prompt; values as ``PLACEHOLDERS`` names them, each shown as it is."""
        return self._template.render(values)


def problem_of_prompt(setting: str, value: str) -> str:
    """Why a setting's prompt cannot be used; empty where it can."""
    try:
        PromptTemplate(setting, value)
    except ValueError as error:
        return str(error)
    return ""
