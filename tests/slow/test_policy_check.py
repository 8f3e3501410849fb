"""A policy that cannot be loaded or used is refused by one sentence, from its small files alone."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

from launch import ROOT
from rollout.nano.policy import make_nano_policy
from rollout.policy_check import check_prompt, context_of, longest_prompt
from rollout.prompt.meta_prompt import MetaPrompt
from rollout.settings import RolloutSettings
from tests.demo import demo_model
from trainer.fitting import fitting
from workflow.nano.simulated.teacher import corpus
from workflow.problem import Problem
from workflow.tasks import TaskSet

MODEL, ROLLOUT = demo_model(), RolloutSettings(max_feedback_tokens=128)


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_nano_policy(tmp_path_factory.mktemp("nano") / "policy", corpus(), seed=1)


@pytest.fixture
def folder(nano: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nano, tmp_path / "policy"))


def edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def config(**values: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", **values)


def tokenizer(**values: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer_config.json", **values)


def shards(*, present: int) -> Callable[[Path], None]:
    def split(folder: Path) -> None:
        names = [f"model-0000{number}-of-00003.safetensors" for number in range(1, 4)]
        for name in names[:present]:
            shutil.copy(folder / "model.safetensors", folder / name)
        (folder / "model.safetensors").unlink()
        weights = {f"layer.{number}": name for number, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))

    return split


def cut_off(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12\n"


@pytest.mark.parametrize(
    ("spoil", "needed"),
    [
        (remove("config.json"), "has no config.json"),
        (write("config.json", "{"), "config.json of the policy .* cannot be read: .*not a valid JSON"),
        (write("config.json", "[]"), "config.json of the policy .* cannot be read"),
        (write("config.json", "{}"), "Should have a `model_type` key"),
        (config(model_type="qwen99"), "model type `qwen99`"),
        (config(architectures=["BertForMaskedLM"]), r"no causal language model .*BertForMaskedLM"),
        (config(architectures=None), "no causal language model .*none"),
        (config(max_position_embeddings=256), r"context of 256 tokens.* may take 288 .*max_prompt_tokens=192"),
        (remove("model.safetensors"), "has no weights"),
        (shards(present=2), r"lacks 1 of 3 files with weights \(model-00003-of-00003.safetensors\)"),
        (write("model.safetensors.index.json", "{"), "index.json of the policy .* cannot be read"),
        (cut_off, "model.safetensors of the policy .* is damaged"),
        (write("model.safetensors", LFS), "model.safetensors of the policy .* is damaged"),
        (write("model.safetensors", ""), "model.safetensors of the policy .* is damaged"),
        (remove("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"), "no tokenizer that can write 'class Workflow'"),
        (remove("tokenizer.json"), "tokenizer of the policy .* cannot be read"),
        (write("tokenizer.json", LFS), "tokenizer of the policy .* cannot be read"),
        (remove("tokenizer_config.json"), "uses token .*, and the model has"),
        (remove("chat_template.jinja"), "has no chat template"),
        (
            write("chat_template.jinja", "{{ raise_exception('no sys') }}"),
            "chat template of the policy .* fails on a question: no sys",
        ),
        (write("chat_template.jinja", "{% for"), "chat template of the policy .* fails on a question"),
        (tokenizer(eos_token=None), "has no eos_token"),
        (config(vocab_size=300), "uses token .*, and the model has 300"),
    ],
)
def test_a_policy_that_cannot_be_loaded_is_refused_by_one_sentence(folder: Path, spoil: Callable[[Path], None], needed: str):
    spoil(folder)
    with pytest.raises(ValueError, match=needed) as caught:
        check_prompt(folder, MODEL, ROLLOUT)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_whole_policy_passes_in_one_file_and_in_several(folder: Path):
    assert check_prompt(folder, MODEL, ROLLOUT).render(Problem("p", "Write f.", "f", (), ()))
    shards(present=3)(folder)
    assert check_prompt(str(folder), MODEL, ROLLOUT)


def test_the_context_must_hold_all_rounds_with_their_feedback(folder: Path):
    edit(folder / "config.json", max_position_embeddings=600)
    several = RolloutSettings(rounds=3, max_feedback_tokens=128)  # 192 + 3 x 96 + 2 x 128
    assert check_prompt(folder, MODEL, RolloutSettings(rounds=2, max_feedback_tokens=128))
    with pytest.raises(ValueError, match="may take 736 "):
        check_prompt(folder, MODEL, several)
    assert longest_prompt(folder, MODEL, ROLLOUT) == 504


def test_what_an_engine_is_told_of_another_context_is_believed(folder: Path):
    edit(folder / "config.json", max_position_embeddings=256)
    assert check_prompt(folder, MODEL, RolloutSettings(engine_args={"hf_overrides": {"max_position_embeddings": 512}}))


def test_an_engine_that_is_told_too_short_a_context_is_refused(nano: Path):
    with pytest.raises(ValueError, match=r"max_model_len=200 holds no episode of 288 tokens"):
        check_prompt(nano, MODEL, RolloutSettings(engine_args={"max_model_len": 200}))
    assert check_prompt(nano, MODEL, RolloutSettings(engine_args={"max_model_len": 300}))


def test_feedback_that_can_never_fit_is_refused_at_once(folder: Path):
    write("chat_template.jinja", "{% for m in messages %}" + "word " * 40 + "{{ m['content'] }}{% endfor %}")(folder)
    with pytest.raises(ValueError, match="max_feedback_tokens=16 does not even hold"):
        check_prompt(folder, MODEL, RolloutSettings(rounds=2, max_feedback_tokens=16))


@pytest.mark.parametrize(
    ("rope", "length"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 8192),
        ({"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}, 32768),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048, "rope_theta": 1e4}, 8192),
    ],
)
def test_the_context_is_reckoned_as_the_engine_reckons_it(folder: Path, rope: dict[str, object], length: int):
    edit(folder / "config.json", rope_parameters=rope)
    assert context_of(AutoConfig.from_pretrained(folder)) == length


HUB = """
import sys
from rollout.policy_check import checked_prompt
from rollout.settings import ModelSettings, RolloutSettings
for name in sys.argv[1:]:
    try:
        checked_prompt(name, demo_model(), RolloutSettings())
        print("passes")
    except ValueError as error:
        print(error)
"""


def ask_hub(folder: Path, *names: str, **environment: str) -> list[str]:
    around = {"HF_HOME": str(folder / "hf"), "PATH": "", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", HUB, *names], cwd=ROOT, env=around | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_hub_id_without_a_hub_is_refused_at_once(tmp_path: Path):
    (said,) = ask_hub(tmp_path, "Qwen/Qwen2.5-0.5B-Instrct", HF_HUB_OFFLINE="1")
    assert "'Qwen/Qwen2.5-0.5B-Instrct' is not on this machine and the Hugging Face hub cannot be reached" in said
    (said,) = ask_hub(tmp_path, "Qwen/Qwen2.5-0.5B-Instrct", HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be reached (ConnectError" in said and "correct model.path" in said


def test_a_hub_id_is_looked_up_without_its_weights(nano: Path, tmp_path: Path):
    asked: list[str] = []
    small = [file for file in nano.iterdir() if file.suffix != ".safetensors"]

    class Hub(BaseHTTPRequestHandler):
        """The part of the hub's interface that is asked here."""

        def do_GET(self) -> None:
            asked.append(self.path)
            if "/no/" in self.path:
                self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif "/gated/" in self.path:
                self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
            elif self.path.startswith("/api/models/") and "/tree/" in self.path:
                self.answer(200, json.dumps([{"type": "file", "path": name, "size": 9, "oid": name} for name in self.files()]).encode())
            elif self.path.startswith("/api/models/"):
                files = [{"rfilename": name} for name in self.files()]
                self.answer(200, json.dumps({"id": "own/whole", "sha": "0" * 40, "siblings": files}).encode())
            else:
                name = self.path.rpartition("/")[2]
                self.answer(200, (nano / name).read_bytes(), {"ETag": f'"{name}"', "X-Repo-Commit": "0" * 40})

        do_HEAD = do_GET

        def files(self) -> list[str]:
            return [file.name for file in small] + (["model.safetensors"] if "whole" in self.path else [])

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        names = ("own/whole", "own/empty", "no/such", "gated/model")
        whole, empty, missing, gated = ask_hub(tmp_path, *names, HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
    assert whole == "passes"
    assert "'own/empty' has no weights (*.safetensors) on the hub" in empty
    assert "The hub has no model 'no/such', or it is private: correct model.path" in missing
    assert "'gated/model' is gated: ask for access" in gated
    assert not [path for path in asked if path.endswith(".safetensors")]


def tasks(*lengths: int) -> TaskSet:
    problems = tuple(Problem(f"p/{number}", "word " * length, "f", (), ()) for number, length in enumerate(lengths))
    return TaskSet(problems, problems[:2], problems[:1])


def test_problems_that_are_too_long_are_left_out_and_counted(nano: Path):
    prompt = MetaPrompt(AutoTokenizer.from_pretrained(nano), MODEL)
    said: list[str] = []
    left = fitting(tasks(3, 900, 5, 800, 7), prompt, MODEL, said.append)
    assert [problem.id for problem in left.train] == ["p/0", "p/2", "p/4"]
    assert (len(left.validation), len(left.test)) == (1, 1)
    longest = max(len(ids) for ids in prompt.ids(tasks(900).train))
    assert len(said) == 2 and "Left out 2 of 5 training problems" in said[0] and f"the longest has {longest} tokens" in said[0]
    assert fitting(tasks(3, 900, 5, 800, 7), prompt, MODEL, said.append) == left
    assert [prompt.render(problem) for problem in left.train] == [tuple(ids) for ids in prompt.ids(left.train)]


def test_a_set_of_which_nothing_fits_is_refused(nano: Path):
    prompt = MetaPrompt(AutoTokenizer.from_pretrained(nano), MODEL)
    with pytest.raises(ValueError, match=r"all 2 training problems are longer than model.max_prompt_tokens=192 \(\d+ to \d+ tokens\)"):
        fitting(tasks(900, 800), prompt, MODEL, print)
