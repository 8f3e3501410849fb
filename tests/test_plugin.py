"""A verifier, an operator and a task set of a user's, outside the product, work wherever ours do."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sandbox.sandbox import Sandbox
from sandbox.settings import SandboxSettings
from workflow.operators import OPERATORS
from workflow.operators.operator import Operator
from workflow.outcome import Outcome
from workflow.problem import Problem
from workflow.verifiers import VERIFIERS, find_verifier
from workflow.verifiers.runner import Examined, Runner
from workflow.verifiers.verifier import Verifier

ROOT = Path(__file__).parents[1]


def test_what_a_package_adds_works_from_settings_to_audit():
    environment = {"PYTHONPATH": f"{ROOT / 'tests' / 'plugin'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.plugin_flow"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["sizes"] == [4, 1, 1]
    assert found["catalogue"] and found["operators"] == ["answer", "vote"]
    assert found["right"] == ["passed", "parent", ["answer", "vote"]] and found["told"]
    assert found["wrong"][0] == "wrong_answer" and "is not the right name" in found["wrong"][1][0]
    assert found["faults"] == [[], ["the query passes"]], "negative controls of the verifier"
    assert found["played"], "the simulated worker is right at times and wrong at others"


class Breaks(Verifier):
    """Raises over every answer."""

    form = answer = "anything"

    def compare(self, solution: str, test: str) -> str | None:
        raise KeyError(solution)


class Prints(Verifier):
    """Runs the answer as a program and looks for the test in what it prints."""

    form = "Answer with a program."
    answer = "a program"

    async def examine(self, runner: Runner, problem: Problem, answer: str, tests: Sequence[str]) -> Examined:
        assert problem.hidden_tests == () and problem.reference is None
        runs, late = await runner.run_programs(self.read_solution(answer, problem), tests)
        return Examined([None if test in run.output else run.output for test, run in zip(tests, runs, strict=True)], late)


async def test_a_verifier_that_raises_scores_nothing():
    async with Sandbox(SandboxSettings()) as sandbox:
        verdict = await sandbox.judge(Problem("t/0", "q", "", (), ("a",), verifier=f"{__name__}:Breaks"), "answer")
    assert verdict.outcome is Outcome.INFRA_ERROR and verdict.passed == ()
    assert verdict.failures == (f"the verifier {__name__}:Breaks failed (KeyError: 'answer')",)


async def test_a_verifier_may_run_programs_and_sees_neither_hidden_tests_nor_the_reference():
    problem = Problem("t/0", "q", "", (), ("spam", "egg"), reference="print('spam egg')", verifier=f"{__name__}:Prints")
    async with Sandbox(SandboxSettings()) as sandbox:
        verdict = await sandbox.judge(problem, "print(input(), 'spam')")
    assert verdict.passed == (True, True)


def test_a_verifier_without_its_texts_or_without_a_judgement_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match="the verifier Half has no answer and no compare"):
        type("Half", (Verifier,), {"form": "x"})


def test_an_unknown_verifier_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="verifier=functoin is unknown; the nearest is function"):
        find_verifier("functoin")
    assert "is a str" in VERIFIERS.problem(f"{__name__}:__doc__")


class Sound(Operator):
    """Does something."""

    system = "You are sound."
    prompt = "{text}"

    async def __call__(self, text: str) -> str:
        return await self._ask(text=text)


class NoDocstring(Sound):
    system = "You have none."


class Silent(Operator):
    """Has no system message."""

    async def __call__(self, text: str) -> str:
        return text


class Counts(Sound):
    """Takes a number."""

    system = "You count."

    async def __call__(self, text: str, times: int) -> str:
        return text * times


class Copies(Sound):
    """Has the system message of another."""

    system = OPERATORS["generate"].system


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("class", Sound, "its name is no name of a method"),
        ("_hidden", Sound, "its name is no name of a method"),
        ("thing", int, "it is no class that is derived from Operator"),
        ("nothing", NoDocstring, "it has no docstring"),
        ("silent", Silent, "it has no system and no prompt"),
        ("counts", Counts, r"must be declared as str or list\[str\]"),
        ("copies", Copies, "its system message is that of generate"),
        ("generate", Sound, "operator=generate is registered twice"),
    ],
)
def test_an_operator_that_could_not_be_shown_or_called_is_refused_before_a_run(name: str, kind: type, said: str):
    before = list(OPERATORS)
    with pytest.raises(ValueError, match=said):
        OPERATORS.add(name, kind)
    assert list(OPERATORS) == before
