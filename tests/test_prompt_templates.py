"""Prompts are template files: the package's say what they always said, and a user's own is checked and kept with the run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conf.schema import load
from rollout.prompt.facts import PromptFacts
from rollout.prompt.meta_prompt import EXAMPLE, prompt_text
from rollout.prompt.template import PROMPTS, PromptTemplate
from tests.demo import demo_values
from tests.scripted_parts import problem
from workflow.language.checks import ALLOWED_MODULES, FORBIDDEN_NAMES
from workflow.operators import catalogue
from workflow.problem import Problem
from workflow.reference import load_reference_workflows
from workflow.verifiers import find_verifier

FULL = """You design a multi-agent workflow for one query. Worker agents will solve the query by running it; \
you do not solve the query yourself.

Reason first, briefly: how hard is the query, and which checks are possible? Then write the workflow as one Python code block. \
Every worker call costs money: use as many as the query needs and no more.

Rules of the language:
- The source defines exactly one class, `class Workflow`, without bases and decorators, with `async def __call__(self, problem)`. \
It may have `__init__(self)` and helper methods; functions, constants and imports may stand beside it.
- `__call__` returns {answer}.
- Operators are methods of `self`; each call of one is awaited, several at once with `asyncio.gather`.
- A run may make 40 operator calls, 8 of them at once, and take 120 seconds, without those in which workers answer. \
Loops, conditions and local functions are allowed. \
Give every loop a bound.
- A call that fails raises `OperatorError`, one beyond the budget `BudgetExceeded`; both may be caught.
- Running tests asks no worker, but counts as 0.3 of a worker call.
- `problem` has `.query`, `.entry_point` and `.public_tests`; it can be passed as it is wherever an operator takes a problem.
- Imports: {modules}. No files, no network, no other names of the form `__x__`, none of {forbidden}.

Operators:
{operators}

An example of a workflow:
```python
{example}
```

<query>
{query}
</query>{examples}"""
"""The full meta-prompt with the declared budgets."""
ODD = replace(
    problem(1),
    query='Return {"a": {0}} and {{ query }} {% if x %} <b>&amp;\n\n',
    public_tests=("assert f('<') == 1", "assert f('{{ y }}') == '&'\n"),
)
PROBLEMS = [problem(0), problem(0, examples=False), replace(problem(2), verifier="number"), ODD]


@pytest.mark.parametrize("one", PROBLEMS)
def test_the_full_prompt_says_to_the_byte_what_is_enforced(one: Problem) -> None:
    tests = "\n".join(one.public_tests)
    assert prompt_text(PromptTemplate("model.meta_prompt", "full"), one) == FULL.format(
        answer=find_verifier(one.verifier).answer.format(entry_point=one.entry_point),
        modules=", ".join(sorted(ALLOWED_MODULES)),
        forbidden=", ".join(f"`{name}`" for name in sorted(FORBIDDEN_NAMES)),
        operators=catalogue(is_code=find_verifier(one.verifier).is_code),
        example="class Workflow" + load_reference_workflows()[EXAMPLE].source.partition("class Workflow")[2],
        query=one.query,
        examples=f"\n<public_tests>\n{tests}\n</public_tests>" if tests else "",
    )


@pytest.mark.parametrize("one", PROBLEMS)
def test_the_brief_prompt_is_the_query_to_the_byte(one: Problem) -> None:
    assert prompt_text(PromptTemplate("model.meta_prompt", "brief"), one) == one.query


FACTS = PromptFacts(9, 3, 45.0, 4, 0.5, "o1-mini", "$3 per million tokens read and $12 per million written")


@pytest.mark.parametrize("name", ["full", "reasoning"])
def test_a_prompt_names_the_budgets_the_rounds_the_worker_and_its_price(name: str) -> None:
    text = prompt_text(PromptTemplate("model.meta_prompt", name), problem(0), FACTS)
    for said in ("9 operator calls, 3 of them at once", "45 seconds", "up to 4 workflows", "counts as 0.5 of a worker call"):
        assert said in text
    assert "The worker is o1-mini, which costs $3 per million tokens read and $12 per million written." in text
    silent = prompt_text(PromptTemplate("model.meta_prompt", name), problem(0), PromptFacts())
    assert "The worker is" not in silent and "one a round" not in silent


def test_the_prompt_for_models_that_reason_has_no_example_and_the_same_rules() -> None:
    full, reasoning = (prompt_text(PromptTemplate("model.meta_prompt", name), problem(0), FACTS) for name in ("full", "reasoning"))
    assert "An example" in full and "An example" not in reasoning and "Reason first" not in reasoning
    rules = full[full.index("Rules of the language") : full.index("An example")]
    assert rules in reasoning and full[full.index("<query>") :] in reasoning


@pytest.mark.parametrize(("verifier", "shown"), [("function", False), ("stdio", False), ("number", True)])
def test_only_operators_that_fit_the_answer_are_shown(verifier: str, shown: bool) -> None:
    text = prompt_text(PromptTemplate("model.meta_prompt", "full"), replace(problem(0), verifier=verifier))
    operators = text[text.index("Operators:") : text.index("An example")]
    assert [f"self.{name}(" in operators for name in ("answer", "format", "program")] == [shown] * 3
    assert ("self.test(" in operators) is not shown and "self.generate(" in operators and "self.custom(" in operators


def test_a_runs_settings_are_the_facts_of_its_prompts() -> None:
    worker = {"model": "w", "prompt_dollars_per_million": 0, "completion_dollars_per_million": 0}
    values = {"rollout": {"rounds": 3}, "sandbox": {"budget": {"calls": 7}}, "reward": {"test_run_calls": 0.1}, "worker": worker}
    facts = load(demo_values(values)).prompt_facts
    assert (facts.rounds, facts.calls, facts.test_run_calls, facts.worker, facts.worker_price) == (3, 7, 0.1, "w", "")


def settings_with(text: str, tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "mine.jinja"
    file.write_text(text)
    return {"model": {"meta_prompt": str(file)}}


def test_a_users_file_is_kept_as_text_so_that_the_run_outlives_the_file(tmp_path: Path) -> None:
    config = load(demo_values(settings_with("Solve {{ query }} with:\n{{ operators }}\n", tmp_path)))
    (tmp_path / "mine.jinja").unlink()
    again = load(config.model_dump(mode="json"))
    assert again.model.meta_prompt == config.model.meta_prompt
    shown = prompt_text(PromptTemplate("model.meta_prompt", again.model.meta_prompt), problem(3))
    assert shown.startswith("Solve Write f(xs), variant 3. with:\n- await self.generate(")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Write a workflow.\n", r"model.meta_prompt: the template lacks \{\{ query \}\}, so"),
        ("{{ query }} {{ operator }}", r"has \{\{ operator \}\}, which no prompt is given; did you mean operators\?"),
        ("{{ query }} {% if %}", r"cannot be used \(TemplateSyntaxError: .*correct it"),
        ("{{ query.mistake }}", r"cannot be used \(UndefinedError"),
        ("{{ query }} ${now}", r"which settings read as a reference"),
    ],
)
def test_a_template_that_would_not_do_is_refused_with_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        load(demo_values(settings_with(text, tmp_path)))


def test_an_unknown_prompt_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.meta_prompt=ful is neither .*; the nearest is full: name one of brief, full, reasoning, "):
        load(demo_values({"model": {"meta_prompt": "ful"}}))
    with pytest.raises(ValueError, match=r"distil.prompt=nowhere.jinja is neither a prompt's name nor a template file"):
        load(demo_values({"distil": {"prompt": "nowhere.jinja"}}))


def test_a_plug_in_may_register_a_file(tmp_path: Path) -> None:
    (tmp_path / "theirs.jinja").write_text("Theirs: {{ query }}\n")
    PROMPTS.add("tests_theirs", tmp_path / "theirs.jinja")
    config = load(demo_values({"model": {"meta_prompt": "tests_theirs"}}))
    assert config.model.meta_prompt == "tests_theirs"
    assert prompt_text(PromptTemplate("model.meta_prompt", "tests_theirs"), problem()) == f"Theirs: {problem().query}"
