"""HTTP exchanges with an OpenAI-compatible endpoint, over aiohttp: bytes out, bytes in.

A training run sends a million small requests, and a client that builds objects around each of them (the ``openai`` package on
httpx) takes 3.5 times the CPU time of this one.
"""

import ipaddress
import os
import ssl
from collections.abc import Mapping
from string import Template
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

import aiohttp
import certifi
import orjson

from workflow.worker.error_body import ErrorBody, error_body
from workflow.worker.redact import redact_url

_MIN_SECRET = 8
"""Length from which a key, a header's value or a word of one is taken out of errors."""
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_KEEP_BODY = (307, 308)
"""Redirects under which a POST stays one."""


class StatusError(Exception):
    """The endpoint answered with an HTTP status other than 2xx, or with an error inside of one."""

    def __init__(
        self,
        status: int,
        body: ErrorBody,
        headers: Mapping[str, str] | None = None,
        *,
        inside: bool = False,
        used: tuple[int, int] = (0, 0),
    ) -> None:
        """
        Args:
            status: HTTP's; of an error inside HTTP 200 the one that it stands for.
            inside: True for the latter.
            used: the prompt and completion tokens that the latter is billed for.
        """
        super().__init__(status, body)  # pickling carries the attributes beside it
        self.status = status
        self.body = body
        self.headers = headers or {}
        self.inside = inside
        self.prompt_tokens, self.completion_tokens = used


def is_near(host: str) -> bool:
    """True for this machine and for addresses of private networks."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def _load_certificates() -> ssl.SSLContext:
    """Certificates of the system's store (or of SSL_CERT_FILE and SSL_CERT_DIR), of certifi, and of what requests and curl are told."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := os.environ.get(name):
            is_folder = os.path.isdir(path)
            try:
                context.load_verify_locations(cafile=None if is_folder else path, capath=path if is_folder else None)
            except OSError as error:
                raise ValueError(f"{name}={path!r} holds no certificates ({error}): correct that environment variable.") from None
    return context


def fill_headers(headers: Mapping[str, str], setting: str) -> dict[str, str]:
    """Headers with the environment's values in place of ``$NAME``.

    Args:
        setting: its name, for messages.

    Raises:
        ValueError: the environment lacks one.
    """
    try:
        return {name: Template(value).substitute(os.environ) for name, value in headers.items()}
    except KeyError as error:
        raise ValueError(f"{setting} names the environment variable {error.args[0]}, which is not set: set it.") from None
    except ValueError:
        raise ValueError(f"{setting} has a $ that begins no name of a variable: write $NAME, or $$ for the sign.") from None


def _is_same_place(url: SplitResult, target: SplitResult) -> bool:
    """Whether what is sent to one URL may be sent to the other: the same server, or the same host by TLS."""
    if url.hostname != target.hostname:
        return False
    return (url.scheme, url.port) == (target.scheme, target.port) or (url.scheme, target.scheme) == ("http", "https")


class Endpoint:
    """One endpoint with its connections; belongs to the event loop that sends the first request."""

    def __init__(self, base_url: str, api_key: str, max_connections: int, headers: Mapping[str, str] | None = None) -> None:
        """
        Args:
            headers: further ones, in place of ours where the names are equal.
        """
        self.api_key = api_key
        self._headers = headers or {}
        words = {word for value in (api_key, *self._headers.values()) for word in (value, *value.split())}  # as in "Bearer KEY"
        self._secrets = sorted((word for word in words if len(word) >= _MIN_SECRET), key=len, reverse=True)
        base = urlsplit(base_url.strip())
        self._base = base._replace(path=base.path.rstrip("/").removesuffix("/chat/completions"))
        self.shown = redact_url(base_url)
        """The URL without what may be a key."""
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None

    def hide_secrets(self, text: str) -> str:
        """A text of the endpoint's without the key and the headers, which some repeat in their errors."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

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
        url = self._base._replace(path=self._base.path + path)  # its query, such as Azure's api-version, stays behind the path
        left = _MOST_REDIRECTS
        while True:
            async with self._session.request(method, urlunsplit(url), data=data, allow_redirects=False) as response:
                payload = await response.read()
            if response.status not in _REDIRECTS:
                break
            target, left = urlsplit(urljoin(urlunsplit(url), response.headers.get("Location", ""))), left - 1
            keeps_request = method == "GET" or response.status in _KEEP_BODY
            if not left or not keeps_request or not _is_same_place(url, target):  # the last: it would carry the key elsewhere
                break
            url = target._replace(netloc=url.netloc.rpartition("@")[0] + "@" + target.netloc if "@" in url.netloc else target.netloc)
        if response.status in _REDIRECTS:
            raise StatusError(response.status, ErrorBody(f"moved to {redact_url(response.headers.get('Location', '?'))}"))
        if not 200 <= response.status < 300:
            raise StatusError(response.status, error_body(payload), dict(response.headers))
        return payload

    def _open(self) -> aiohttp.ClientSession:
        host = self._base.hostname or ""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if ".azure." in host or "api-version" in self._base.query:
            headers["api-key"] = self.api_key
        if ".azure." not in host and "@" not in self._base.netloc:  # credentials in the URL are the authorization
            headers["Authorization"] = f"Bearer {self.api_key}"
        ours = {name: value for name, value in headers.items() if name.lower() not in {given.lower() for given in self._headers}}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections, ssl=_load_certificates() if self._base.scheme == "https" else True),
            headers=ours | dict(self._headers),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=not is_near(host),  # no proxy to this machine and to the nodes beside it
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
