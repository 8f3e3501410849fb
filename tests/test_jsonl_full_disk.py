"""Files of a run on a full disk: nothing ends, nothing is torn, what waits is written in order. The kernel refuses the writes."""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rollout.groups.stream import StreamState
from rollout.traces import Trace
from tests.run_factory import settings
from tests.test_run_folder_resume import saved
from trainer.run.console import RunConsole
from trainer.run.folder import RunFolder
from trainer.run.jsonl import Appender, WholeFile, drop_half_line, keep_rows, read_rows
from workflow.outcome import Outcome

FIRST = [{"n": number, "text": "×" * 40} for number in range(10)]
MORE = [{"n": number, "text": "é\u2028" * 30} for number in range(10, 60)]


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """Files of this process cannot grow beyond that size: the write that would is cut short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def printed(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_a_write_that_is_cut_short_leaves_whole_rows_and_the_rest_is_written_later_in_order(file: Path):
    said: list[str] = []
    rows = Appender(file, said.append)
    rows.append(FIRST)
    room = file.stat().st_size + 700
    with room_for(room):
        rows.append(MORE[:30])
        held = file.read_text()
        assert held.endswith("\n") and room - 300 < len(held.encode()) <= room and len(read_rows(file)) < 40
        rows.append(MORE[30:])
        assert rows.rows() == FIRST + MORE
    rows.retry()
    assert read_rows(file) == FIRST + MORE
    assert len(said) == 2 and said[0].startswith(f"NOT WRITTEN: {file} (File too large)") and said[1] == f"{file} is written again."


def test_what_never_finds_room_is_told_at_the_end(file: Path):
    said: list[str] = []
    rows = Appender(file, said.append)
    with room_for(0):
        rows.append(FIRST)
        rows.close()
    assert said[-1] == f"LOST: 10 rows of {file} could not be written (File too large)." and file.read_bytes() == b""


def test_a_last_try_at_the_end_writes_what_waits(file: Path):
    said: list[str] = []
    rows = Appender(file, said.append)
    with room_for(0):
        rows.append(FIRST)
    rows.close()
    assert read_rows(file) == FIRST and "written again" in said[-1]


def test_rows_beyond_the_bound_are_dropped_from_the_oldest_on_and_counted(file: Path):
    said: list[str] = []
    rows = Appender(file, said.append, max_waiting_bytes=1000)
    with room_for(0):
        for row in FIRST + MORE:
            rows.append([row])
    rows.retry()
    kept = read_rows(file)
    assert kept == (FIRST + MORE)[-len(kept) :] and 3 <= len(kept) < 10
    assert [sentence.split()[0] for sentence in said] == ["NOT", "DROPPING", str(file)]
    assert f"but {60 - len(kept)} rows had been dropped" in said[-1]


def test_half_a_row_that_could_not_be_cut_off_is_cut_off_before_the_next_write(file: Path, monkeypatch: pytest.MonkeyPatch):
    rows = Appender(file, lambda text: None)
    rows.append(FIRST)
    whole = file.stat().st_size
    with room_for(whole + 20):
        rows.append(MORE[:1])
    with file.open("ab") as out:
        out.write(b'{"n": 10, "te')
    rows.append(MORE[1:])
    assert read_rows(file) == FIRST + MORE


def test_a_folder_that_is_gone_for_a_while_ends_nothing(tmp_path: Path):
    rows = Appender(tmp_path / "share" / "rows.jsonl", lambda text: None)
    rows.append(FIRST)
    (tmp_path / "share").mkdir()
    rows.append(MORE)
    assert read_rows(rows.file) == FIRST + MORE


def test_rows_that_wait_can_be_removed_like_written_ones(file: Path):
    rows = Appender(file, lambda text: None)
    rows.append(FIRST)
    with room_for(file.stat().st_size):
        rows.append(MORE)
        removed = rows.keep(lambda row: row["n"] < 5)
        assert removed == (FIRST + MORE)[5:] and rows.rows() == FIRST[:5]


def test_rows_at_the_end_are_removed_without_any_room(file: Path):
    Appender(file, print).append(FIRST)
    with room_for(0):
        assert keep_rows(file, lambda row: row["n"] < 4) == FIRST[4:]
    assert read_rows(file) == FIRST[:4]


def test_rows_in_the_middle_are_removed_by_rewriting(file: Path):
    Appender(file, print).append(FIRST)
    assert keep_rows(file, lambda row: row["n"] != 4) == [FIRST[4]]
    assert read_rows(file) == [row for row in FIRST if row["n"] != 4]


@pytest.mark.parametrize("half", [b"", b'{"n": 1', b"x" * 200_000])
@pytest.mark.parametrize("rows", [0, 10, 4000])
def test_half_a_row_of_any_length_is_cut_off(file: Path, half: bytes, rows: int):
    whole = b'{"n": 1, "text": "abc"}\n' * rows
    file.write_bytes(whole + half)
    drop_half_line(file)
    assert file.read_bytes() == whole


def test_a_whole_file_keeps_its_old_content_until_there_is_room_for_the_newest(tmp_path: Path):
    said: list[str] = []
    state = WholeFile(tmp_path / "state.json", said.append)
    state.write("old")
    with room_for(2):
        state.write("newer")
        state.write("newest")
        assert state.file.read_text() == "old" and sorted(item.name for item in tmp_path.iterdir()) == ["state.json"]
    state.retry()
    assert state.file.read_text() == "newest"
    assert len(said) == 2 and said[0].startswith("NOT WRITTEN") and said[1] == f"{state.file} is written again."


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 MiB; skips where this user may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


async def test_a_disk_that_is_really_full_costs_a_checkpoint_and_nothing_else(small_disk: Path):
    class Learner:
        async def save(self, folder: Path) -> None:
            (folder / "weights").write_bytes(b"w" * 10_000)

        async def load(self, folder: Path) -> None: ...

    console = Console(file=StringIO(), width=250)
    with RunFolder.open(settings(small_disk / "run"), RunConsole("test", console)) as run:
        run.log("grpo", 0, {"reward/mean": 0.0}, total=3)
        with (small_disk / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, shutil.disk_usage(small_disk).free)
        assert shutil.disk_usage(small_disk).free == 0
        for step in range(1, 40):
            run.log("grpo", step, {f"reward/{number}": float(step) for number in range(40)}, total=41)
        await run.checkpoints.save(2, Learner(), StreamState(0, (), ()))
        assert saved(run) == [] and len(read_rows(run.path / "metrics.jsonl")) < 40 == len(run.rows("grpo"))
        (small_disk / "filler").unlink()
        await run.checkpoints.save(3, Learner(), StreamState(0, (), ()))
        run.log("grpo", 40, {}, total=41)
        assert [row["step"] for row in read_rows(run.path / "metrics.jsonl")] == list(range(41)) and saved(run) == [3]
    said = printed(console)
    assert "metrics.jsonl (No space left on device)" in said and "CHECKPOINT NOT SAVED" in said


def test_a_run_goes_on_through_a_full_disk_and_its_folder_has_everything_afterwards(tmp_path: Path):
    console = Console(file=StringIO(), width=250)
    with RunFolder.open(settings(tmp_path / "run"), RunConsole("test", console)) as run:
        run.log("grpo", 0, {"reward/mean": 0.0}, total=4)
        with room_for(1):
            run.append_trace(Trace(0, "p", "q", (), Outcome.PASSED))
            for step in (1, 2):
                run.log("grpo", step, {"reward/mean": float(step)}, total=4, alarms=[f"ALARM {step}"])
            run.mark_done("distil", passed=1)
            run.write_results([{"name": "GRPO policy"}])
            assert [row["step"] for row in run.rows("grpo")] == [0, 1, 2] and len(run.read_traces()) == 1
        run.log("grpo", 3, {"reward/mean": 3.0}, total=4)
        folder = run.path
        assert [row["step"] for row in read_rows(folder / "metrics.jsonl")] == [0, 1, 2, 3]
        assert [row["text"] for row in read_rows(folder / "alarms.jsonl")] == ["ALARM 1", "ALARM 2"]
        assert len(read_rows(folder / "traces.jsonl")) == 1
        assert json.loads((folder / "results.json").read_text())["steps"] == 3
        assert json.loads((folder / "state.json").read_text())["stages"] == {"distil": {"passed": 1}}
    said = printed(console)
    assert said.count("NOT WRITTEN") == said.count("is written again") == 5 and "LOST" not in said
