"""An OpenAI-compatible server that plays a worker LLM and a teacher: ``/v1/chat/completions``, ``/v1/models``, ``/health``, ``/spent``.

Replies depend on the server's seed, the model, the messages, the request's ``seed`` and the choice's index alone, so they
do not change with concurrency. A request without a seed counts as the n-th of its kind; at temperature 0 every sample is the
same. Tokens are characters / 4, rounded up. Latency is slept for real (``/spent`` tells how much of it, by seed); faults fall
on a share of the requests, drawn anew for each repetition of a request, so that a retry can succeed. Streaming, tools and
log-probabilities are not played.
"""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from workflow.nano.simulated.book import Book
from workflow.nano.simulated.latency import Latency
from workflow.nano.simulated.player import Player
from workflow.nano.simulated.skill import stream
from workflow.problem import Problem
from workflow.settings import SimulatedWorkerSettings, TaskSettings
from workflow.tasks import load_problems

_MAX_COUNTED = 200_000
_MAX_CHOICES = 128


class BadRequest(ValueError):
    """A request that the API refuses, with its HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status


def create_app(settings: SimulatedWorkerSettings, problems: Iterable[Problem] = ()) -> FastAPI:
    """The server's application.

    Args:
        problems: problems of a file set with their references; nano problems are known without.
    """
    app = FastAPI(title="FlowReasoner simulated worker", docs_url=None, redoc_url=None, openapi_url=None)
    player = Player(settings, Book(problems))
    chat = _Chat(settings, player)
    models = {name: {"id": name, "object": "model", "created": 0, "owned_by": "flowreasoner"} for name in player.models}

    async def list_models(request: Request) -> Response:
        return Response(_json({"object": "list", "data": list(models.values())}), media_type="application/json")

    async def show_model(request: Request) -> Response:
        name = request.path_params["name"]
        return (
            Response(_json(models[name]), media_type="application/json")
            if name in models
            else _error(404, f"No model {name}.", "not_found")
        )

    async def health(request: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def spent(request: Request) -> Response:
        return Response(_json(chat.latency.account()), media_type="application/json")

    app.add_route("/v1/models", list_models, methods=["GET"])
    app.add_route("/v1/models/{name}", show_model, methods=["GET"])
    app.add_route("/health", health, methods=["GET"])
    app.add_route("/spent", spent, methods=["GET"])
    app.add_route("/v1/chat/completions", chat.respond, methods=["POST"])
    return app


class _Chat:
    """The chat route. Plain Starlette with ready bytes: a training step sends a thousand requests on shared cores."""

    def __init__(self, settings: SimulatedWorkerSettings, player: Player) -> None:
        self.latency = Latency(settings.latency, settings.seed)
        self._settings = settings
        self._player = player
        self._seen: Counter[bytes] = Counter()
        faults = settings.faults
        self._faulty = sum(faults.model_dump().values()) > 0

    async def respond(self, request: Request) -> Response:
        arrived_s = time.monotonic()
        body = await request.body()
        fault, occurrence = None, 0
        try:
            call = _read(body, self._player.models)
            if self._faulty or call.get("seed") is None:
                occurrence = self._count(body)
            if self._faulty:
                fault = self._draw_fault(body, occurrence)
            if fault in ("http_429", "http_500", "hang"):
                return await _fail(fault, request)
            reply = self._complete(call, occurrence)
        except BadRequest as error:
            return _error(error.status, error.message, "invalid_request_error")
        await self.latency.wait(body, occurrence, call.get("seed"), arrived_s)
        return _Broken(reply, fault) if fault else Response(reply, media_type="application/json")

    def _count(self, body: bytes) -> int:
        if len(self._seen) > _MAX_COUNTED:
            self._seen.clear()
        self._seen[body] += 1
        return self._seen[body] - 1

    def _draw_fault(self, body: bytes, occurrence: int) -> str | None:
        draw = stream(self._settings.seed, "fault", body, occurrence).random()
        for name, share in self._settings.faults.model_dump().items():
            draw -= share
            if draw < 0:
                return name
        return None

    def _complete(self, call: dict[str, Any], occurrence: int) -> bytes:
        messages, model = call["messages"], call["model"]
        seed = call.get("seed")
        greedy = call.get("temperature") == 0
        limit = call.get("max_completion_tokens") or call.get("max_tokens") or 1 << 30
        choices, spent = [], 0
        for index in range(call.get("n") or 1):
            sample = "greedy" if greedy else (seed if seed is not None else f"unseeded {occurrence}", index)
            text = self._player.answer(model, messages, sample)
            tokens = _tokens(text)
            cut = tokens > limit
            spent += min(tokens, limit)
            message = {"role": "assistant", "content": text[: limit * 4] if cut else text}
            choices.append({"index": index, "message": message, "finish_reason": "length" if cut else "stop", "logprobs": None})
        prompt = sum(_tokens(message["content"]) for message in messages)
        return _json(
            {
                "id": f"chatcmpl-{stream(seed, occurrence, messages).getrandbits(64):016x}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": model,
                "choices": choices,
                "usage": {"prompt_tokens": prompt, "completion_tokens": spent, "total_tokens": prompt + spent},
            }
        )


def _tokens(text: str) -> int:
    return -(-len(text) // 4)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _read(body: bytes, models: Sequence[str]) -> dict[str, Any]:
    """The request's JSON, with what is used of it checked."""
    try:
        call = json.loads(body)
    except ValueError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    if not isinstance(call, dict):
        raise BadRequest("The body must be a JSON object.")
    if call.get("model") not in models:
        raise BadRequest(f"The model {call.get('model')!r} does not exist here: use one of {', '.join(models)}.", 404)
    messages = call.get("messages")
    for message in messages if isinstance(messages, list) else ():
        parts = message.get("content") if isinstance(message, dict) else None
        if isinstance(parts, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
            message["content"] = "".join(part["text"] for part in parts)
    well_formed = isinstance(messages, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in messages
    )
    if not messages or not well_formed:
        raise BadRequest("'messages' must be a list of at least one {role, content} object, both texts.")
    if call.get("stream"):
        raise BadRequest("The simulated worker does not stream: leave 'stream' out.")
    for name, low, high in (("n", 1, _MAX_CHOICES), ("max_tokens", 1, None), ("max_completion_tokens", 1, None), ("seed", None, None)):
        value = call.get(name)
        fits = isinstance(value, int) and not isinstance(value, bool) and (low is None or value >= low) and (high is None or value <= high)
        if value is not None and not fits:
            raise BadRequest(f"{name!r} = {value!r} must be an integer{f' from {low}' if low else ''}{f' to {high}' if high else ''}.")
    return call


async def _fail(fault: str, request: Request) -> Response:
    if fault == "http_429":
        return _error(429, "Simulated rate limit.", "rate_limit_error", {"Retry-After": "1"})
    if fault == "http_500":
        return _error(500, "Simulated server error.", "server_error")
    while not await request.is_disconnected():  # hangs until the client gives up
        await asyncio.sleep(0.2)
    return Response(status_code=499)


def _error(status: int, message: str, kind: str, headers: dict[str, str] | None = None) -> Response:
    return Response(_json({"error": {"message": message, "type": kind, "code": None, "param": None}}), status, headers, "application/json")


class _Broken(Response):
    """A reply that ends early: ``truncated_json`` with a right length, ``dropped_connection`` with the connection cut."""

    def __init__(self, body: bytes, fault: str) -> None:
        half = body[: len(body) // 2]
        super().__init__(half, media_type="application/json")
        self._dropped = fault == "dropped_connection"
        if self._dropped:
            self.headers["content-length"] = str(len(body))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._dropped:
            return await super().__call__(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        # returning before the body is complete makes uvicorn close the connection


def load_known_problems(tasks: TaskSettings) -> list[Problem]:
    """What the server must know: nothing of nano, every problem of a file set."""
    return [] if tasks.name == "nano" else [problem for problem in load_problems(tasks) if problem.source != "nano"]


def serve(
    settings: SimulatedWorkerSettings, tasks: TaskSettings, *, host: str = "", ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        host: where to listen; empty: as ``settings.host`` says.
        ready: called with the base URL once the port is open.

    Raises:
        ValueError: the task set cannot be loaded or played, or the port cannot be opened.
    """
    app = create_app(settings, load_known_problems(tasks))
    host = host or settings.host or "127.0.0.1"
    try:
        listener = socket.create_server((host, settings.port), backlog=2048)
    except OSError as error:
        raise ValueError(
            f"Port {settings.port} of {host} cannot be opened ({error.strerror}): set simulated.port to a free port, or to 0."
        ) from None
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, timeout_keep_alive=300, lifespan="off")
    with listener:
        ready(f"http://{host}:{listener.getsockname()[1]}/v1")
        uvicorn.Server(config).run(sockets=[listener])
