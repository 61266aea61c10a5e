"""One HTTP exchange with a stranger: bounded in time and size, whole or an error."""

import functools
import hashlib
import http.client
import ipaddress
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

MAX_BYTES = 2**27  # of one answer
CHUNK = 2**16


class TransportError(Exception):
    """No whole answer came.

    `reason` is "no_connection" where nothing was sent, else "timeout", "dropped", "truncated" or
    "too_large": then the other side may have done its work.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Keeps the reason beside the message."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answered:
    """Status, headers (lower case) and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host; it is an answer like any other."""

    def redirect_request(
        self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """Never."""


@functools.cache
def _opener(direct: bool) -> urllib.request.OpenerDirector:
    # This machine is never asked through a proxy, which would see what was not encrypted for it.
    return urllib.request.build_opener(
        _NoRedirects, urllib.request.ProxyHandler({} if direct else None)
    )


def exchange(
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
    timeout: float,
) -> Answered:
    """Sends and receives.

    Args:
        url: http or https.
        body: POSTed, unless `method` says otherwise; None for GET.
        headers: Of the request.
        method: In place of that.
        timeout: Seconds until the answer has to be whole.

    Raises:
        TransportError: If it is not; an answer with an error status is none.
        ValueError: If the address is neither http nor https.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"an address must be http or https, got {url!r}")
    # Some services turn away what calls itself a library.
    named = {"User-Agent": "idbench", **(headers or {})}
    request = urllib.request.Request(url, data=body, headers=named, method=method)
    deadline = time.monotonic() + timeout
    try:
        try:
            response = _opener(is_loopback(url)).open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            content = _read(response, deadline, timeout)
            found = {key.lower(): value for key, value in response.headers.items()}
            return Answered(response.status, found, content)
    except TimeoutError as error:
        raise TransportError("timeout", f"no answer in {timeout:g} s") from error
    except http.client.IncompleteRead as error:
        raise TransportError("truncated", "the answer ended early") from error
    except (OSError, http.client.HTTPException) as error:
        raise _lost(error, timeout) from error


def _lost(error: Exception, timeout: float) -> TransportError:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return TransportError("timeout", f"no answer in {timeout:g} s")
    dropped = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
    if isinstance(cause, (*dropped, http.client.HTTPException)):
        return TransportError("dropped", f"the connection was dropped ({type(cause).__name__})")
    return TransportError("no_connection", f"no connection ({cause})")


def _read(response: Any, deadline: float, timeout: float) -> bytes:
    """The body; `read1` returns what has come, so that a slow answer cannot outlast the deadline.

    It does not notice by itself that the body ended early.
    """
    expected = response.headers.get("Content-Length", "")
    if expected.isdecimal() and int(expected) > MAX_BYTES:
        raise TransportError("too_large", f"the answer is over {MAX_BYTES} bytes")
    parts, size = [], 0
    while part := response.read1(CHUNK):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise TransportError("too_large", f"the answer is over {MAX_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TransportError("timeout", f"the answer was not whole in {timeout:g} s")
    if expected.isdecimal() and size < int(expected):
        raise TransportError("truncated", f"{size} of {expected} bytes came")
    return b"".join(parts)


def multipart(
    fields: Mapping[str, object], files: Sequence[tuple[str, str, bytes]]
) -> tuple[bytes, str]:
    """A multipart/form-data body and its content type; equal content gives an equal body.

    Args:
        fields: Name to value; true and false in lower case, the rest as `str` has it.
        files: (field name, file name, PNG content); a field name may occur several times.
    """
    parts: list[tuple[str, bytes]] = []
    for name, value in fields.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        parts.append((f'form-data; name="{name}"\r\n\r\n', text.encode()))
    for name, filename, content in files:
        head = f'form-data; name="{name}"; filename="{filename}"\r\nContent-Type: image/png\r\n\r\n'
        parts.append((head, content))
    # Made of the content, the boundary cannot be in it.
    digest = hashlib.sha256(repr([head for head, _ in parts]).encode())
    for _, content in parts:
        digest.update(content)
    boundary = digest.hexdigest()[:32]
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: {head}".encode() + content + b"\r\n"
        for head, content in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def is_private(url: str) -> bool:
    """Whether nobody can listen on the way: https, or this machine itself."""
    return urlsplit(url).scheme == "https" or is_loopback(url)


def is_loopback(url: str) -> bool:
    """Whether the host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
