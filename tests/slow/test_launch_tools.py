"""The commands around the sandbox: doctor, sandbox, prepare."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from launch import ROOT, doctor
from launch.candidates import is_run
from tests.scripted_endpoint import endpoint, error, http

SAMPLE = Path(__file__).parents[1] / "data" / "humaneval_sample.jsonl"
REVERSED = "def f(xs):\n    return xs[::-1]\n"


def command(name: str, *arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"launch.{name}", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, timeout=100
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def boxed(folder: Path, source: str, *arguments: object) -> dict:
    file = folder / "file.py"
    file.write_text(source)
    return json.loads(command("sandbox", file, *arguments))


def test_a_program_shows_its_streams_status_and_time(tmp_path: Path):
    (tmp_path / "in.txt").write_text("7\n")
    source = "import sys\nprint(int(input()) * 6)\nprint('oops', file=sys.stderr)\nraise SystemExit(3)"
    report = boxed(tmp_path, source, "--as", "program", "--stdin", tmp_path / "in.txt")
    assert (report["outcome"], report["exit_status"], report["stdout"], report["stderr"]) == ("crashed", 3, "42\n", "oops\n")
    assert report["isolation"] in ("namespace", "landlock") and report["cpu_s"] < report["wall_s"] + 1


def test_a_limit_that_was_hit_is_named(tmp_path: Path):
    report = boxed(tmp_path, "while True: pass", "--as", "program", "--cpu-s", 1)
    assert report["outcome"] == "timed_out" and "CPU limit of 1 s" in report["limit"]
    assert "no end within 0.5 s" in boxed(tmp_path, "import time\ntime.sleep(9)", "--wall-s", 0.5)["limit"]


@pytest.mark.parametrize(
    "tests",
    [
        "def check(candidate):\n    assert candidate([1, 2]) == [2, 1]\n    assert candidate([]) == [0]\n",
        "xs = [1, 2]\nassert f(xs) == [2, 1]\nassert f([]) == [0]\n",
    ],
)
def test_a_candidate_gets_a_verdict_for_each_test(tmp_path: Path, tests: str):
    (tmp_path / "tests.py").write_text(tests)
    report = boxed(tmp_path, REVERSED, "--as", "candidate", "--entry", "f", "--tests", tmp_path / "tests.py")
    assert [test["passed"] for test in report["tests"]] == [True, False] and "it returned []" in report["tests"][1]["failure"]
    assert (report["outcome"], report["trust"]) == ("wrong_answer", "split")


def test_a_workflow_class_shows_its_trace_and_its_bill(tmp_path: Path):
    source = "class Workflow:\n    async def __call__(self, problem):\n        return await self.generate(problem)\n"
    report = boxed(tmp_path, source, "--as", "workflow", "--query", "Reverse.", "--reply", f"```python\n{REVERSED}```")
    assert (report["outcome"], report["answer"], report["worker_calls"]) == ("answered", REVERSED.strip(), 1)
    assert [call["operator"] for call in report["trace"]] == ["generate"]


RAW = """import json, os, struct
def send(frame):
    data = json.dumps(frame).encode()
    os.write(3, struct.pack('>I', len(data)) + data)
def receive():
    (size,) = struct.unpack('>I', os.read(3, 4))
    return json.loads(os.read(3, size))
send({'id': 1, 'op': 'custom', 'args': ['x', 'y'], 'kwargs': {}})
reply = receive()
send({'id': 2, 'op': 'nonsense', 'args': [], 'kwargs': {}})
refused = receive()
send({'finish': {'answer': reply['value'] + refused['kind']}})
"""


def test_a_raw_guest_program_speaks_on_descriptor_3(tmp_path: Path):
    report = boxed(tmp_path, RAW, "--as", "workflow", "--reply", "hello ")
    assert (report["outcome"], report["answer"], report["operator_calls"]) == ("answered", "hello type", 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.py"], "'nowhere.py' is not a file"),
        ([str(SAMPLE), "--as", "candidate"], "--as candidate needs --entry NAME and --tests TESTS.py"),
        ([str(SAMPLE), "--as", "candidate", "--entry", "f", "--tests", str(ROOT / "launch" / "__init__.py")], "asserts nothing"),
    ],
)
def test_wrong_use_of_the_sandbox_command_is_told_in_a_sentence(arguments: list[str], sentence: str):
    assert sentence in command("sandbox", *arguments, code=2)


def test_the_doctor_says_which_isolation_is_reached():
    report = json.loads(command("doctor", "--json"))
    names = {finding["name"]: finding for finding in report["findings"]}
    assert report["can_train"] and report["isolation"] in ("namespace", "landlock")
    assert {"memory", "Landlock", "user namespaces", "seccomp", "level unsafe", "ray", "GPU"} <= names.keys()
    assert all(finding["remedy"] for finding in report["findings"] if not finding["good"] and not finding["name"].startswith("level"))


def test_the_doctor_names_an_endpoint_that_does_not_answer():
    report = json.loads(command("doctor", "--json", "--endpoint", "http://127.0.0.1:9/v1"))
    (finding,) = [finding for finding in report["findings"] if finding["name"] == "http://127.0.0.1:9/v1"]
    assert not finding["good"] and "no connection" in finding["value"]


async def test_the_doctor_asks_a_model_for_a_completion_and_believes_no_list():
    async with endpoint(models=http(200, {"data": [{"id": "scripted-worker"}]})) as server:
        asked = await doctor.endpoint(server.base_url, "NO_KEY", "unlisted")
        assert asked.good and [body["model"] for body in server.requests] == ["unlisted"]
        listed = await doctor.endpoint(server.base_url, "NO_KEY", None)
        assert listed.good and "scripted-worker" in listed.value
    for models in (error(401), error(404), http(200, b"<html>")):
        async with endpoint(models=models) as server:
            assert "--model" in (await doctor.endpoint(server.base_url, "NO_KEY", None)).remedy
            assert (await doctor.endpoint(server.base_url, "NO_KEY", "any")).good


def test_preparing_a_set_writes_sound_rows_and_the_audit(tmp_path: Path):
    said = command("prepare", "humaneval", "--path", SAMPLE, "--out", tmp_path / "out", "--mutants", 3)
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    problems = [json.loads(line) for line in (tmp_path / "out" / "problems.jsonl").read_text().splitlines()]
    sound = [row["id"] for row in audit["rows"] if not row["faults"]]
    assert [problem["id"] for problem in problems] == sound and sound
    assert 0 < sum(row["killed"] for row in audit["rows"]) <= sum(row["mutants"] for row in audit["rows"])
    assert "references that pass" in said and "trust split" in (tmp_path / "out" / "audit.md").read_text()


def test_a_row_that_any_answer_passes_is_left_out_with_its_reason(tmp_path: Path):
    rows = [
        {"id": "weak", "query": "q", "entry_point": "f", "hidden_tests": ["assert f(1) is None"], "reference": "def f(x): return None"},
        {"id": "wrong", "query": "q", "entry_point": "f", "hidden_tests": ["assert f(1) == 2"], "reference": "def f(x): return x"},
        {"id": "sound", "query": "q", "entry_point": "f", "hidden_tests": ["assert f(1) == 7"], "reference": "def f(x): return x + 6"},
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command("prepare", "jsonl", "--path", tmp_path / "mine.jsonl", "--out", tmp_path / "out")
    written = (tmp_path / "out" / "problems.jsonl").read_text()
    audit = (tmp_path / "out" / "audit.md").read_text()
    assert '"sound"' in written and '"weak"' not in written and '"wrong"' not in written
    assert "weak: return None passes" in audit and "wrong: its reference fails" in audit


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("evaluate", ["run", "--workflow", "all", "tasks.test_size=12", "--out", "x.json", "trainer.evaluation.runs=2"]),
        ("solve", ["run", "Write f.", "--entry", "g", "worker.timeout_s=5", "--test", "assert g(1)"]),
    ],
)
def test_settings_may_stand_before_between_and_after_options(command: str, line: list[str]):
    module = importlib.import_module(f"launch.{command}")
    options = module.parser().parse_intermixed_args(line)
    overrides = options.overrides if command == "solve" else [text for text in options.given if not is_run(text)]
    assert overrides == [word for word in line if "=" in word]
    assert "parse_intermixed_args" in inspect.getsource(module.main)
