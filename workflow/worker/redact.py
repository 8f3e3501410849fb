"""URLs as they may be shown: a key may lie in the query or before the host, and what is shown is copied on."""

import re

_URL = re.compile(
    r"(\w+://|^)"
    r"(?:[^\s/?#'\"]*@|[^\s/?#'\"]*:(?!\d+[/?#])\S*@)?"  # the second form: a password with characters that end a host
    r"([^\s?#'\"]*)[^\s'\"]*"
)


def redact_url(url: str) -> str:
    """Scheme, host, port and path of a URL."""
    return _URL.sub(r"\1\2", re.sub(r"[\s'\"]", "_", url.strip()), count=1)


def with_shown_urls(text: str) -> str:
    """A text with its URLs cut down to what may be shown of them."""
    return re.sub(r"\w+://[^\s'\"]*", lambda found: redact_url(found.group()), text)
