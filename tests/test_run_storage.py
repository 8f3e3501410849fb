"""A run at a URL: what is there is enough to go on, in whatever state the machine that wrote it went."""

import json
import uuid
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from rich.console import Console

from rollout.policy_files import local_copy
from tests.run_factory import settings
from trainer.cluster.settings import ClusterSettings
from trainer.run.at_url import fetch, settings_at
from trainer.run.console import RunConsole
from trainer.run.folder import RunFolder
from trainer.run.jsonl import Appender, read_rows
from trainer.run.mirror import RunStorage, rank


class Faulty(MemoryFileSystem):
    """A storage in memory that takes nothing whose name holds ``refused``."""

    protocol = "faulty"
    refused = ""
    cachable = False
    order: list[str] = []

    def put_file(self, lpath, rpath, **kwargs):
        if Faulty.refused and Faulty.refused in rpath:
            raise PermissionError("no room for it")
        Faulty.order.append(rpath.rpartition("run/")[2])
        super().put_file(lpath, rpath, **kwargs)


fsspec.register_implementation("faulty", Faulty, clobber=True)


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path: Path) -> str:
    return f"file://{tmp_path}/remote/run" if request.param == "file" else f"memory://{uuid.uuid4().hex}/run"


@pytest.fixture
def faulty() -> Iterator[str]:
    Faulty.refused, Faulty.order = "", []
    yield f"faulty://{uuid.uuid4().hex}/run"
    Faulty.refused = ""


def storage(url: str, tmp_path: Path, said: list[str] | None = None, **given) -> RunStorage:
    values = {"cache_dir": str(tmp_path / "cache"), "upload_retries": 1, "upload_every_s": 0.05} | given
    return RunStorage(url, ClusterSettings(**values), (said if said is not None else []).append, pause_s=0.001)


def there(url: str) -> set[str]:
    files, root = fsspec.url_to_fs(url)
    return {str(name).partition("/run/")[2] for name in files.find(root)}


def opened(url: str, tmp_path: Path, out: StringIO | None = None) -> RunFolder:
    values = settings(Path("unused")).model_copy(
        update={
            "trainer": settings(Path("unused")).trainer.model_copy(update={"run_dir": url}),
            "cluster": ClusterSettings(cache_dir=str(tmp_path / "cache")),
        }
    )
    return RunFolder.open(values, RunConsole("test", Console(file=out or StringIO(), width=400)))


def test_a_run_goes_on_from_what_is_at_the_url_alone(url: str, tmp_path: Path):
    with opened(url, tmp_path) as run:
        run.log("grpo", 0, {"reward/mean": 0.5}, total=2)
        run.mark_done("sft", steps=3)
        assert run.place == url and run.path.name == "run"
        first = run.state.run_id
    assert not run.path.exists(), "the working copy stays behind"
    with opened(url, tmp_path) as again:
        assert again.is_done("sft") and again.state.run_id == first
        assert [row["reward/mean"] for row in read_rows(again.path / "metrics.jsonl")] == [0.5]


def test_the_settings_that_a_run_at_a_url_had_are_read_from_there(url: str, tmp_path: Path):
    assert settings_at(url) is None
    with opened(url, tmp_path):
        pass
    assert "run_dir" in (settings_at(url) or "")


def test_a_run_at_a_url_that_began_with_other_settings_is_refused_and_leaves_no_working_copy(url: str, tmp_path: Path):
    with opened(url, tmp_path) as run:
        run.mark_done("distil")
    before = settings_at(url)
    with pytest.raises(ValueError, match="started with other settings"):
        RunFolder.open(
            settings(Path("unused")).model_copy(
                update={
                    "trainer": settings(Path("unused"), seed=9).trainer.model_copy(update={"run_dir": url}),
                    "cluster": ClusterSettings(cache_dir=str(tmp_path / "cache")),
                }
            )
        )
    assert settings_at(url) == before and not list((tmp_path / "cache").glob("*"))


def test_what_was_removed_here_goes_there_too(url: str, tmp_path: Path):
    copy = storage(url, tmp_path)
    for step in (1, 2):
        folder = copy.folder / "checkpoints" / f"step_00000{step}"
        folder.mkdir(parents=True)
        (folder / "model.pt").write_bytes(b"x" * step)
        (folder / "manifest.json").write_text("{}")
    copy.sync()
    assert len(there(url)) == 4
    for file in (copy.folder / "checkpoints" / "step_000001").iterdir():
        file.unlink()
    copy.sync()
    assert there(url) == {"checkpoints/step_000002/model.pt", "checkpoints/step_000002/manifest.json"}
    copy.close()


def test_rows_go_up_before_the_checkpoints_that_count_them_and_state_goes_last(faulty: str, tmp_path: Path):
    names = ["state.json", "checkpoints/step_000001/manifest.json", "metrics.jsonl", "checkpoints/step_000001/model.pt", "sft/config.json"]
    right = ["metrics.jsonl", "sft/config.json", "checkpoints/step_000001/model.pt", "checkpoints/step_000001/manifest.json", "state.json"]
    assert sorted(names, key=rank) == right
    copy = storage(faulty, tmp_path)
    for name in names:
        (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.folder / name).write_text(name)
    copy.sync()
    assert Faulty.order == right
    copy.close()


def test_a_checkpoint_whose_files_did_not_arrive_gets_no_manifest(faulty: str, tmp_path: Path):
    copy = storage(faulty, tmp_path)
    for name in ("metrics.jsonl", "checkpoints/step_000001/model.pt", "checkpoints/step_000001/manifest.json", "state.json"):
        (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.folder / name).write_text(name)
    Faulty.refused = "model.pt"
    with pytest.raises(Exception, match=r"model\.pt: PermissionError: no room for it"):
        copy.sync()
    assert there(faulty) == {"metrics.jsonl"}
    Faulty.refused = ""
    copy.close()
    assert len(there(faulty)) == 4


def wait_until(reached, timeout_s: float = 10.0) -> None:
    import time

    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_failing_upload_is_told_once_and_made_up_for_later(faulty: str, tmp_path: Path):
    said: list[str] = []
    copy = storage(faulty, tmp_path, said)
    copy.begin()
    Faulty.refused = "run/"
    Appender(copy.folder / "metrics.jsonl", print).append([{"step": 0}])
    wait_until(lambda: said)
    Appender(copy.folder / "metrics.jsonl", print).append([{"step": 1}])
    wait_until(lambda: copy._failing)
    Faulty.refused = ""
    wait_until(lambda: len(said) == 2)
    assert said[0].startswith("UPLOAD FAILED (metrics.jsonl: PermissionError: no room for it). The run goes on")
    assert said[1] == f"All of the run is at {faulty} again."
    copy.close()
    assert [row["step"] for row in read_rows(fetch(faulty_with_config(faulty)) / "metrics.jsonl")] == [0, 1]


def faulty_with_config(url: str) -> str:
    files, root = fsspec.url_to_fs(url)
    files.pipe_file(f"{root}/config.yaml", b"{}")
    return url


def test_what_cannot_be_uploaded_at_the_end_stays_on_this_machine(faulty: str, tmp_path: Path):
    said: list[str] = []
    copy = storage(faulty, tmp_path, said)
    (copy.folder / "state.json").write_text("{}")
    Faulty.refused = "state"
    copy.close()
    assert (copy.folder / "state.json").exists()
    assert said[-1].startswith("UPLOAD FAILED") and str(copy.folder) in said[-1]


def test_locks_links_and_half_written_files_stay_here(url: str, tmp_path: Path):
    copy = storage(url, tmp_path)
    for name in (".lock", "sft.partial/model.bin", "checkpoints/step_000001.partial/model.pt", ".state.json.new", "wandb/run/files/a.json"):
        (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.folder / name).write_text("x")
    (copy.folder / "wandb" / "latest-run").symlink_to(copy.folder / "wandb" / "run")
    (copy.folder / "link.json").symlink_to(copy.folder / "wandb" / "run" / "files" / "a.json")
    copy.close()
    assert there(url) == {"wandb/run/files/a.json"}


def test_a_url_that_cannot_be_used_is_one_sentence(tmp_path: Path, faulty: str):
    with pytest.raises(ValueError, match=r"'nowhere://x/run' is in a storage that is not known here"):
        RunStorage("nowhere://x/run", ClusterSettings(), print)
    with pytest.raises(ValueError, match=r"trainer.run_dir='file:///proc/none/run' cannot be read and written"):
        storage("file:///proc/none/run", tmp_path)
    assert not list((tmp_path / "cache").glob("*"))


def test_a_copy_for_reading_leaves_the_checkpoints_where_they_are(url: str, tmp_path: Path):
    with opened(url, tmp_path) as run:
        folder = run.path / "checkpoints" / "step_000001"
        folder.mkdir(parents=True)
        (folder / "model.pt").write_bytes(b"x")
        (run.path / "results.json").write_text(json.dumps({"rows": []}))
    copy = fetch(url)
    assert (copy / "results.json").exists() and not (copy / "checkpoints").exists()
    assert fetch(tmp_path) == tmp_path
    with pytest.raises(ValueError, match="is not a run"):
        fetch(f"{url}-of-nobody")


def test_a_policy_is_at_its_url_before_engines_are_told_of_it(url: str, tmp_path: Path):
    with opened(url, tmp_path) as run:
        run.base_policy.mkdir()
        (run.base_policy / "config.json").write_text("{}")
        assert run.reachable(run.base_policy) == f"{url}/base" and there(url) >= {"base/config.json"}
        assert run.reachable(Path("owner/name")) == "owner/name"


def test_engines_of_one_machine_share_a_copy_until_the_policy_changes(url: str, tmp_path: Path):
    files, root = fsspec.url_to_fs(url)
    files.makedirs(root, exist_ok=True)
    files.pipe_file(f"{root}/config.json", b"first")
    first = local_copy(url, tmp_path / "policies")
    assert local_copy(url, tmp_path / "policies") == first and (first / "config.json").read_text() == "first"
    files.pipe_file(f"{root}/config.json", b"second")
    second = local_copy(url, tmp_path / "policies")
    assert second != first and (second / "config.json").read_text() == "second"


def test_a_path_or_a_hub_id_needs_no_copy_and_an_empty_url_is_refused(url: str, tmp_path: Path):
    assert local_copy("owner/name") == Path("owner/name") and local_copy(tmp_path) == tmp_path
    with pytest.raises(ValueError, match="There is no policy at"):
        local_copy(url, tmp_path / "policies")
