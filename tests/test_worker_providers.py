"""Worker providers: who answers, what is started for a run, and workers of one's own."""

import pickle
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from conf.schema import load
from launch.compose import with_overrides
from rollout.settings import DistilSettings
from tests.demo import demo_values
from tests.scripted_endpoint import endpoint
from workflow.settings import SimulatedWorkerSettings, TaskSettings, TeacherSettings, WorkerSettings
from workflow.worker.client import WorkerClient
from workflow.worker.interface import Message, Reply
from workflow.worker.providers import Surroundings, close_worker, make_worker, open_worker, start_providers

HELLO: list[Message] = [{"role": "user", "content": "hello"}]
OWN, SERVED = f"{__name__}:OwnWorker", f"{__name__}:served"


class OwnWorker:
    """A client of something that speaks no OpenAI: it needs no URL, no check and no close."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings

    async def complete(
        self, messages: Sequence[Message], *, seed: int, ordinal: int = 0, temperature: float | None = None, max_tokens: int | None = None
    ) -> Reply:
        return Reply(f"{self.settings.model} heard {messages[-1]['content']}", 1, 1, 0.0, 0.0)


events: list[str] = []


@asynccontextmanager
async def served(asked: Sequence[WorkerSettings], run: Surroundings) -> AsyncIterator[list[WorkerSettings]]:
    """Serves whatever models are asked for at one address."""
    events.append(f"start {[one.model for one in asked]} in {run.folder.name}")
    yield [one.model_copy(update={"provider": "endpoint", "base_url": "http://127.0.0.1:9/v1"}) for one in asked]
    events.append("end")


def surroundings(folder: Path) -> Surroundings:
    return Surroundings(folder, TaskSettings(name="nano"), SimulatedWorkerSettings())


async def test_a_worker_of_ones_own_needs_no_url_and_is_made_from_the_settings_in_any_process() -> None:
    settings = load(demo_values({"worker": {"provider": OWN, "model": "claude"}})).worker
    worker = make_worker(pickle.loads(pickle.dumps(settings)))
    assert (await worker.complete(HELLO, seed=0)).text == "claude heard hello"
    async with open_worker(settings, events.append) as opened:
        assert isinstance(opened, OwnWorker)
    await close_worker(worker)


async def test_a_provider_that_worker_and_teacher_name_starts_once_and_ends_with_the_run(tmp_path: Path) -> None:
    events.clear()
    asked = {"worker": WorkerSettings(provider=SERVED, model="w"), "teacher": TeacherSettings(provider=SERVED, model="t")}
    async with start_providers(asked, surroundings(tmp_path / "run")) as ready:
        assert events == ["start ['w', 't'] in run"]
        assert [(one.model, one.base_url, one.section) for one in ready.values()] == [
            ("w", "http://127.0.0.1:9/v1", "worker"),
            ("t", "http://127.0.0.1:9/v1", "distil"),
        ]
        assert isinstance(make_worker(ready["worker"]), WorkerClient)
    assert events[-1] == "end"


async def test_nothing_is_started_for_an_endpoint_and_its_settings_stay_as_they_are(tmp_path: Path) -> None:
    asked = {"worker": WorkerSettings(base_url="http://x/v1", model="m"), "teacher": WorkerSettings(provider=OWN)}
    async with start_providers(asked, surroundings(tmp_path)) as ready:
        assert ready == asked


async def test_an_open_worker_has_answered_once_and_one_that_does_not_is_refused(tmp_path: Path) -> None:
    async with endpoint() as server:
        settings = WorkerSettings(base_url=server.base_url, model="scripted-worker")
        async with open_worker(settings, events.append):
            assert len(server.requests) == 1
    with pytest.raises(ValueError, match=r"The teacher endpoint .* failed"):
        async with open_worker(TeacherSettings(base_url=server.base_url, model="m"), events.append):
            pass


async def test_the_simulated_worker_is_a_provider_like_any_other(tmp_path: Path) -> None:
    asked = {
        "worker": WorkerSettings(provider="simulated", model="simulated-worker"),
        "teacher": TeacherSettings(provider="simulated", model="simulated-teacher"),
    }
    async with start_providers(asked, surroundings(tmp_path)) as ready:
        assert ready["worker"].base_url == ready["teacher"].base_url and {one.provider for one in ready.values()} == {"endpoint"}
        async with open_worker(ready["teacher"], events.append) as teacher:
            assert (await teacher.complete(HELLO, seed=1)).text
    assert (tmp_path / "simulated_worker.log").exists()


def test_a_provider_that_is_not_up_makes_no_worker() -> None:
    with pytest.raises(ValueError, match=r"worker.provider=simulated starts a server, which is not up"):
        make_worker(WorkerSettings(provider="simulated"))


def test_a_teacher_is_asked_with_the_settings_of_distil() -> None:
    teacher = DistilSettings(provider=OWN, model="t", max_tokens=99, concurrency=3).worker()
    assert (teacher.provider, teacher.model, teacher.max_tokens, teacher.max_concurrency, teacher.section) == (OWN, "t", 99, 3, "distil")
    assert teacher.cache_entries == 0, "equal requests are no retries: each trace is a sample of its own"


@pytest.mark.parametrize(("url", "provider"), [("null", "simulated"), ("http://localhost:8000/v1", "endpoint")])
def test_a_run_saved_before_there_were_providers_goes_on_with_who_answered_then(url: str, provider: str) -> None:
    values = demo_values({"worker": {"base_url": yaml.safe_load(url)}})
    del values["worker"]["provider"], values["distil"]["provider"], values["trainer"]["imports"]
    config = with_overrides(yaml.safe_dump(values), [], "runs/old")
    assert (config.worker.provider, config.distil.provider, config.model.path) == (provider, "simulated", "nano")


def test_a_run_saved_before_teachers_had_rounds_goes_on_with_one() -> None:
    values = demo_values({})
    del values["distil"]["rounds"]
    assert with_overrides(yaml.safe_dump(values), [], "runs/old").distil.rounds == 1
