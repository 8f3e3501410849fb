"""What is shown of an endpoint's URL: never the parts in which a key may lie."""

import pytest

from conf.crosschecks import problems_between_settings
from launch import doctor
from rollout.settings import DistilSettings
from tests.scripted_endpoint import endpoint, error, http
from tests.test_worker_client_calls import ASK, client_of
from trainer.settings import RunSettings
from workflow.settings import WorkerSettings
from workflow.worker.interface import WorkerError
from workflow.worker.redact import redact_url, with_shown_urls


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://x/v1?api-key=SECRET", "https://x/v1"),
        (" http://user:SECRET@x:80/v1/ ", "http://x:80/v1/"),
        ("http://SECRET@x", "http://x"),
        ("http://user:SE@CRET@x/v1", "http://x/v1"),
        ("http://user:SE/CR?E#T@x/v1?key=SECRET", "http://x/v1"),
        ("https://x/v1?key=SE CR'ET", "https://x/v1"),
        ("https://x/v1#SECRET", "https://x/v1"),
        ("user:SECRET@x/v1?key=SECRET", "x/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("http://x:8000/v1/@cf/m?key=SECRET@x", "http://x:8000/v1/@cf/m"),
    ],
)
def test_a_url_is_shown_by_scheme_host_port_and_path(url: str, shown: str):
    assert redact_url(url) == shown


def test_a_text_with_urls_keeps_what_stands_around_them():
    text = "a: http://u:SECRET@x/v1?k=SECRET\nwhy? url='https://y:1/?k=SECRET', 404"
    assert with_shown_urls(text) == "a: http://x/v1\nwhy? url='https://y:1/', 404"


@pytest.mark.parametrize("form", ["{}?api-key=SECRET", "{}/chat/completions?key=SECRET#SECRET"])
async def test_no_error_of_an_endpoint_shows_the_key_in_its_url(form: str):
    moved = http(301, {}, location="/v2?api-key=SECRET")
    async with endpoint(error(500), moved) as server:
        address = server.base_url
        server.base_url = form.format(address)
        async with client_of(server, max_retries=1) as client:
            with pytest.raises(WorkerError, match=r"moved to /v2\)") as caught:
                await client.complete(ASK, seed=1)
    assert "SECRET" not in str(caught.value) and address in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/v1?key=SECRET", "http://user:SE/CRET@127.0.0.1/v1"])
async def test_no_error_shows_the_key_in_a_url_that_is_none(url: str):
    async with endpoint() as server:
        server.base_url = url
        async with client_of(server, max_retries=0) as client:
            with pytest.raises(WorkerError) as caught:
                await client.complete(ASK, seed=1)
    assert not {"SECRET", "SE", "CRET"} & set(str(caught.value).replace("/", " ").replace("@", " ").split()), caught.value


@pytest.mark.parametrize("model", [None, "scripted-worker"])
async def test_the_doctor_names_an_endpoint_without_its_key(model: str | None):
    for answer in (http(200, {"data": ["scripted-worker"]}), error(404)):
        async with endpoint(models=answer) as server:
            url = server.base_url.replace("http://", "http://user:SECRET@") + "?key=SECRET"
            found = await doctor.endpoint(url, "NO_KEY", model)
            assert found.name == server.base_url and "SECRET" not in repr(found)


async def test_the_doctors_reason_shows_no_key():
    found = await doctor.endpoint("http://127.0.0.1:99999/v1?key=SECRET", "NO_KEY", None)
    assert not found.good and "SECRET" not in repr(found)


def test_settings_that_are_refused_show_no_key():
    worker, distil = WorkerSettings(base_url="user:SECRET@x/v1", model="m"), DistilSettings(base_url="user:SECRET@y/v1", model="m")
    said = " ".join(problems_between_settings(RunSettings(worker=worker, distil=distil)))
    assert "worker.base_url='x/v1'" in said and "distil.base_url='y/v1'" in said and "SECRET" not in said
