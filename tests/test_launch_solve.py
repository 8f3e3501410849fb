"""``python -m launch.solve`` up to the point where actors start, and what it shows and says of what came out."""

import asyncio
import errno
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import pytest
import yaml
from rich.console import Console

from launch import ROOT
from launch.solve import EXIT, exit_status, main, parser, show
from rollout.records import Episode, Round
from sandbox.pool import SandboxPlace, SandboxPool
from sandbox.records import Execution, OperatorCall, Run, Verdict
from sandbox.settings import SandboxSettings
from tests.demo import demo_values
from tests.scripted_parts import completion
from trainer.evaluation.solve import Solution
from trainer.run.terminal import Terminal
from workflow.language.parse import parse_workflow
from workflow.outcome import Outcome, RunFailedError
from workflow.problem import Problem
from workflow.program import Refusal, Workflow
from workflow.settings import WorkerSettings
from workflow.worker.interface import WorkerError

SOURCE = "class Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n"
CALL = OperatorCall(0, "generate", "{}", '"def f(xs):\\n    return xs"', "", 1, 0, 5, 7, 0.0, 0.0, 0.25)
PASSED = Verdict(Outcome.PASSED, (True, True), (), 0.1, "landlock")


def solution(
    answer: str | None = "def f(xs): return xs",
    *,
    text: str = "Plan: draft once.",
    call: OperatorCall = CALL,
    outcome: Outcome = Outcome.ANSWERED,
    error: str = "",
    verdict: Verdict | None = None,
    refusal: Refusal | None = None,
) -> Solution:
    workflow = parse_workflow(SOURCE)
    assert isinstance(workflow, Workflow)
    runs = (Run(Execution(outcome, answer, (call,), error, 1.0, "landlock"), None),)
    said = completion(f"{text}\n```python\n{SOURCE}```")
    part = Round(said, None, refusal, ()) if refusal else Round(said, workflow, None, runs)
    return Solution(Episode("solve/query/0", (part,), 0, None), verdict)


def printed(what: Solution, console: Console | None = None) -> str:
    out = StringIO()
    show(what, console or Terminal(file=out, width=80))  # type: ignore[arg-type]
    return out.getvalue()


HOSTILE = "xs[i] [/INST] [bold] :smile:"


@pytest.mark.parametrize(
    "what",
    [
        solution(text=HOSTILE),
        solution(HOSTILE),
        solution(f"def f(xs):\n    return '{HOSTILE}'"),
        solution(call=replace(CALL, operator=HOSTILE)),
        solution(call=replace(CALL, error=HOSTILE, reply="")),
        solution(None, outcome=Outcome.CRASHED, error=HOSTILE),
        solution(verdict=Verdict(Outcome.WRONG_ANSWER, (False,), (HOSTILE,), 0.1, "landlock")),
        solution(text=HOSTILE, refusal=Refusal(Outcome.FORBIDDEN, "no loop")),
        solution(refusal=Refusal(Outcome.FORBIDDEN, HOSTILE)),
    ],
    ids=["reasoning", "prose", "answer", "operator", "error", "crash", "failure", "completion", "refusal"],
)
def test_what_models_write_is_shown_to_the_last_sign(what: Solution):
    out = StringIO()
    for console in (Terminal(file=out, width=200), Console(file=out, width=200)):
        show(what, console)  # type: ignore[arg-type]
    assert out.getvalue().count(HOSTILE) == 2


def test_a_reply_shows_its_lines_and_no_command():
    text = printed(solution(call=replace(CALL, reply='"def f(xs):\\n    return \\u001b[2J[xs[i] for i in xs]"')))
    assert "\\n" not in text and "\x1b" not in text and "return ␛[2J" in text


def test_a_reply_that_the_trace_cut_off_is_still_shown():
    assert "return" in printed(solution(call=replace(CALL, reply='"def f(xs):\\n    return')))
    assert '["a", ["b' in printed(solution(call=replace(CALL, reply='["a", ["b')))


def test_an_answer_is_not_cut_at_the_terminals_width():
    line = "    return " + " + ".join(f"value_{index}" for index in range(60))
    assert f"\n{line}\n" in printed(solution(f"def f(xs):\n{line}"))


@pytest.mark.parametrize("answer", ["42", "The answer is 42.", "#### 42", ""])
def test_an_answer_that_is_no_program_is_shown_as_it_is(answer: str):
    assert f"Answer:\n{answer}\n" in printed(solution(answer))


@pytest.mark.parametrize(
    ("what", "status"),
    [
        (solution(), 0),
        (solution(verdict=PASSED), 0),
        (solution(verdict=Verdict(Outcome.WRONG_ANSWER, (True, False), ("no",), 0.1, "landlock")), 1),
        (solution(None, outcome=Outcome.CRASHED, error="KeyError"), 1),
        (solution(None, outcome=Outcome.TIMED_OUT), 1),
        (solution(refusal=Refusal(Outcome.NO_WORKFLOW, "none")), 1),
        (solution(None, outcome=Outcome.INFRA_ERROR, error="no connection"), 3),
        (solution(verdict=Verdict(Outcome.INFRA_ERROR, (), ("no judge",), 0.0, "landlock")), 3),
    ],
    ids=["answer", "all pass", "one fails", "crash", "time", "no workflow", "endpoint", "judge"],
)
def test_the_exit_status_tells_the_outcome(what: Solution, status: int):
    assert exit_status(what) == status


def test_what_infrastructure_lost_is_told_with_its_reason():
    assert "No answer: lost to infrastructure: no connection to http://x" in printed(
        solution(None, outcome=Outcome.INFRA_ERROR, error="no connection to http://x")
    )
    lost = printed(solution(verdict=Verdict(Outcome.INFRA_ERROR, (), ("the zygote hangs",), 0.0, "landlock")))
    assert "tests could not be run" in lost and "the zygote hangs" in lost and "0 of 0" not in lost


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RunFailedError("The rollout engines failed 3 times."), 3),
        (WorkerError("no answer from http://x"), 3),
        (ExceptionGroup("unhandled", [RunFailedError("No sandbox is left.")]), 3),
        (RuntimeError("Ray is gone"), 3),
        (KeyError("lost"), 3),
        (ValueError("The worker endpoint http://x failed with no connection."), 2),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 2),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_what_ends_a_solve_is_never_told_as_an_outcome(error: BaseException, status: int, tmp_path, monkeypatch, capsys):
    class BrokenSystem:
        def __init__(self, *args: object, **options: object) -> None: ...

        async def __aenter__(self) -> "BrokenSystem":
            raise error

        async def __aexit__(self, *exc: object) -> None: ...

    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text("{}")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(demo_values({})))
    monkeypatch.setitem(sys.modules, "trainer.system", SimpleNamespace(System=BrokenSystem))
    monkeypatch.setattr("launch.solve.check_length", lambda *given: None)
    monkeypatch.setattr("launch.solve.quiet_libraries", lambda: None)
    monkeypatch.setattr(sys, "argv", ["solve", str(tmp_path), "Write f(xs)."])
    assert main() == status
    assert len(capsys.readouterr().err.splitlines()) == 2  # that it starts, and the one sentence


def test_a_pool_without_a_sandbox_ends_as_a_failure_of_machines():
    pool = SandboxPool(SandboxSettings(actors=1), WorkerSettings(base_url="http://x"))
    place = SandboxPlace("Sandbox actor 1 of 1", object, pool._free, print)
    place.up, place.lost, pool._places = False, "no memory", [place]
    with pytest.raises(RunFailedError, match=r"No sandbox is left: Sandbox actor 1 of 1: no memory\. Mend"):
        asyncio.run(pool.judge(Problem("t/0", "q", "f", (), ()), "x"))


def test_the_exit_status_is_in_the_help():
    assert "3 a machine or an endpoint failed" in EXIT and EXIT[:30] in parser().format_help()


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["  "], "The query is empty"),
        (["Write f.", "--test", "assert f(1"], "is not Python"),
        (["Write f.", "--entry", "not a name"], "--entry 'not a name'"),
        ([b"Write f \xff."], "is no text in UTF-8"),
        (["Write f."], "is not a run folder"),
    ],
)
def test_a_wrong_query_is_refused_before_anything_is_loaded(arguments: list[str | bytes], needed: str):
    loaded = "print(sorted({'torch', 'ray', 'transformers'} & set(sys.modules)))"
    program = f"import sys\nfrom launch.solve import main\nstatus = main()\n{loaded}\nsys.exit(status)"
    command = [sys.executable, "-c", program, "/no/such/run", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and needed in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", ["solve", "evaluate"])
def test_help_loads_no_engine(command: str):
    program = f"import sys, launch.{command} as c\nc.parser().format_help()\nprint({{'torch', 'ray', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr
