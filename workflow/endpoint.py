"""HTTP exchanges with an OpenAI-compatible endpoint, over aiohttp: bytes out, bytes in.

A training run sends a million small requests, and a client that builds objects around each of them (the ``openai`` package on
httpx) takes 3.5 times the CPU time of this one.
"""

import ipaddress
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import certifi
import orjson


class StatusError(Exception):
    """The endpoint answered with an HTTP status other than 2xx."""

    def __init__(self, status: int, payload: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(status, payload, headers)
        self.status = status
        self.headers = headers
        error = _error_object(payload)
        self.message = str(error.get("message") or payload[:200].decode("utf-8", "replace"))
        self.code = error.get("code")
        """The API's own name of the failure, such as ``context_length_exceeded``; None where it gives none."""
        self.param = error.get("param")
        """The part of the request that it concerns, where it says so."""


def is_near(host: str) -> bool:
    """True for this machine and for addresses of private networks."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def _error_object(payload: bytes) -> Mapping[str, Any]:
    try:
        error = orjson.loads(payload)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {"message": error}


class Endpoint:
    """One endpoint with its connections; belongs to the event loop that sends the first request."""

    def __init__(self, base_url: str, api_key: str, max_connections: int) -> None:
        self.api_key = api_key
        self._base_url = base_url.rstrip("/")
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str) -> bytes:
        """The body of the answer to a GET. Raises as ``post``."""
        return await self._exchange("GET", path, None)

    async def post(self, path: str, body: dict[str, Any]) -> bytes:
        """The body of the answer to a JSON request. There is no deadline and no retry here.

        Raises:
            StatusError: the status is not 2xx.
            aiohttp.ClientError: there was no whole exchange.
        """
        return await self._exchange("POST", path, orjson.dumps(body))

    async def _exchange(self, method: str, path: str, data: bytes | None) -> bytes:
        if self._session is None:
            self._session = self._open()
        async with self._session.request(method, self._base_url + path, data=data) as response:
            payload = await response.read()
            if not 200 <= response.status < 300:
                raise StatusError(response.status, payload, dict(response.headers))
        return payload

    def _open(self) -> aiohttp.ClientSession:
        is_local = is_near(urlsplit(self._base_url).hostname or "")
        context = ssl.create_default_context(cafile=certifi.where()) if self._base_url.startswith("https:") else True
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections, ssl=context),
            headers={"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json", "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=not is_local,  # no proxy to this machine and to the nodes beside it
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
