"""How commands end: a sentence and an exit code."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch import ROOT, intruders
from launch.shell import Interrupted, one_sentence_errors, report_error
from workflow.worker.interface import WorkerError


def ended(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    @one_sentence_errors
    def main() -> int:
        raise error

    return main(), capsys.readouterr().err


def test_a_users_error_is_its_sentence_and_code_2(capsys: pytest.CaptureFixture[str]):
    assert ended(ValueError("x=1 is wrong: take 2."), capsys) == (2, "error: x=1 is wrong: take 2.\n")


def test_an_endpoint_that_fails_is_the_users_to_repair(capsys: pytest.CaptureFixture[str]):
    assert ended(WorkerError("no answer from http://x"), capsys) == (2, "error: no answer from http://x\n")


def test_several_problems_are_a_line_each(capsys: pytest.CaptureFixture[str]):
    assert ended(ValueError("a.\nb."), capsys) == (2, "error: a.\nerror: b.\n")


def test_what_an_actor_raised_counts_as_what_it_is(capsys: pytest.CaptureFixture[str]):
    wrapped = RuntimeError("ray::Actor.method()\n  File ...")
    wrapped.cause = ValueError("model.path is empty.")  # type: ignore[attr-defined]
    assert ended(wrapped, capsys) == (2, "error: model.path is empty.\n")


def test_an_error_of_a_task_group_counts_as_what_it_is(capsys: pytest.CaptureFixture[str]):
    assert ended(ExceptionGroup("unhandled", [ValueError("wrong.")]), capsys) == (2, "error: wrong.\n")


def test_a_full_disk_names_the_remedy(capsys: pytest.CaptureFixture[str]):
    code, text = ended(OSError(errno.ENOSPC, "No space left on device", "/runs/a/metrics.jsonl"), capsys)
    assert code == 2 and "disk is full at /runs/a/metrics.jsonl" in text and "trainer.run_dir" in text


def test_the_unexpected_is_one_line_and_its_traceback_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    try:
        raise KeyError("lost")
    except KeyError as error:
        assert report_error(error, tmp_path) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and str(tmp_path / "error.log") in line
    assert "raise KeyError" in (tmp_path / "error.log").read_text()


def test_the_traceback_is_printed_where_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("FLOWREASONER_TRACEBACK", "1")
    _, text = ended(ValueError("wrong."), capsys)
    assert "Traceback (most recent call last)" in text and text.endswith("error: wrong.\n")


def test_an_interrupt_is_code_130_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str]):
    assert ended(KeyboardInterrupt(), capsys) == (130, "Interrupted.\n")
    assert ended(Interrupted("Go on with: x"), capsys) == (130, "Interrupted. Go on with: x\n")


@pytest.mark.parametrize("sigint", [signal.SIG_DFL, signal.SIG_IGN], ids=["foreground", "background"])
def test_sigterm_ends_a_command_like_ctrl_c(sigint: signal.Handlers):
    script = (
        "import time, sys\nfrom launch.shell import one_sentence_errors\n"
        "@one_sentence_errors\ndef main():\n"
        "    try:\n        print('up', flush=True)\n        time.sleep(60)\n    finally:\n        print('closed', flush=True)\n"
        "sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, sigint),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "closed\n", "Interrupted.\n")


def test_our_packages_are_the_ones_that_python_finds():
    assert intruders() == []


def test_an_intruder_is_named_with_its_path(tmp_path: Path):
    found = intruders(root=tmp_path, packages=("trainer",))
    assert len(found) == 1 and str(ROOT / "trainer") in found[0]


def test_a_shadowed_package_stops_every_command_with_a_sentence(tmp_path: Path):
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__init__.py").touch()
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    script = "import sys; sys.path = [p for p in sys.path if p]; import launch"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert str(tmp_path / "trainer") in done.stderr and done.stderr.count("\n") == 1
