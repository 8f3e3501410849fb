"""Checks of the settings of workers and teacher: each problem is one sentence with the value and the remedy."""

import re
from collections.abc import Iterator

from trainer.settings import RunSettings
from workflow.settings import WorkerSettings
from workflow.worker.crew import DEFAULT_WORKER
from workflow.worker.providers import PROVIDERS, is_worker
from workflow.worker.redact import redact_url

_SECRET = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)
"""Names of headers that carry what a run folder must not hold."""


def problems_of_workers(config: RunSettings) -> Iterator[str]:
    """What is wrong with whom the operators ask."""
    yield from problems_of_worker(config.worker)
    for name, settings in config.workers.items():
        if name == DEFAULT_WORKER or not re.fullmatch(r"[A-Za-z][\w-]*", name):
            yield f"workers has the name {name!r}: use letters, digits, _ and -, and not {DEFAULT_WORKER!r}, which is worker's own."
        yield from problems_of_worker(settings.called(f"workers.{name}"))
    if config.judge.model:
        yield from problems_of_worker(config.judge)
    elif config.judge.base_url:
        yield f"judge.base_url={redact_url(config.judge.base_url)!r} without a model: set judge.model to one that the endpoint serves."


def problems_of_worker(asked: WorkerSettings) -> Iterator[str]:
    """What is wrong with the settings of a worker or of the teacher."""
    name, url = asked.section, asked.base_url
    for header in (header for header, value in asked.headers.items() if _SECRET.search(header) and "$" not in value):
        yield f"{name}.headers has the value of {header} itself, which the run folder would keep: write $NAME of an environment variable."
    if asked.tokens_per_minute is not None and asked.tokens_per_minute < asked.max_tokens:
        yield (
            f"{name}.tokens_per_minute={asked.tokens_per_minute} is below {name}.max_tokens={asked.max_tokens}, which one call may use: "
            f"lower {name}.max_tokens."
        )
    if problem := PROVIDERS.problem(asked.provider):
        yield problem.replace("worker.", f"{name}.", 1)
        return
    if url is not None and not url.startswith(("http://", "https://")):
        yield f"{name}.base_url={redact_url(url)!r} is not a URL: it must start with http:// or https://, for example http://localhost:8000/v1."
    if url is not None and not is_worker(PROVIDERS.find(asked.provider)):
        yield (
            f"{name}.base_url={redact_url(url)!r} is set, but {name}.provider={asked.provider} starts an endpoint of its own: set "
            f"{name}.provider=endpoint and {name}.model to a model that this endpoint serves, or {name}.base_url=null."
        )
    if asked.provider == "endpoint":
        if url is None:
            yield f"{name}.base_url is not set: give an endpoint like http://localhost:8000/v1, or set {name}.provider to what starts one."
        if not asked.model:
            yield f"{name}.model is not set: set {name}.model to one that the endpoint serves."
