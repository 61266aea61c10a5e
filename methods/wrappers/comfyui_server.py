"""A ComfyUI server, spoken to as its own editor does: HTTP, and a WebSocket that tells progress.

The WebSocket only says when to look: results are read from `/history`. Where it cannot be opened,
closes or stays silent, `/history` is looked at now and then instead.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from idbench.methods.protocol import Failure
from idbench.methods.stopped import StoppedError
from idbench.methods.wrappers.comfyui_workflow import Graph, described
from idbench.methods.wrappers.pacing import backoff
from idbench.methods.wrappers.transport import (
    Answered,
    TransportError,
    exchange,
    is_loopback,
    multipart,
)

EXCHANGE = 60.0  # seconds for one exchange over HTTP
SILENCE = 5.0  # seconds without a word after which the history is looked at
LOOK = 1.0  # seconds between looks where there is no WebSocket
MOST_HEARD = 2**26  # bytes of one message; previews are images
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
SHOWN = 300  # characters of an answer in a message
ENDS = frozenset({"execution_success", "execution_error", "execution_interrupted"})


class LostError(Exception):
    """The server does not know the prompt any more, or its image; the message says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComfyServer:
    """One server. `first_wait` and `retries` are for exchanges that fail and may be repeated."""

    url: str
    retries: int
    first_wait: float

    def upload(self, name: str, content: bytes) -> str | Failure:
        """Puts a PNG file into the server's input folder; returns what loaders call it.

        Raises:
            StoppedError: If the server cannot be used.
        """
        fields = {"type": "input", "overwrite": "true"}
        body, kind = multipart(fields, [("image", name, content)])
        answered = self._exchange("/upload/image", body, kind)
        if isinstance(answered, Failure):
            return answered
        if answered.status != 200:
            return Failure("rejected", f"/upload/image: {_shown(answered)}")
        document = self._document("/upload/image", answered)
        subfolder = document.get("subfolder") or ""
        stored = str(document.get("name") or name)
        return f"{subfolder}/{stored}" if subfolder else stored

    @contextlib.contextmanager
    def listening(self) -> Iterator["Listener"]:
        """A WebSocket for the length of a `with` block, if the server lets one be opened."""
        client = uuid4().hex
        parts = urlsplit(self.url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        address = f"{scheme}://{parts.netloc}{parts.path}/ws?clientId={client}"
        with contextlib.ExitStack() as stack:
            socket: ClientConnection | None = None
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                # No pings: a server in the middle of its work may be late with the answer.
                opened = connect(
                    address,
                    open_timeout=EXCHANGE,
                    close_timeout=1,
                    ping_interval=None,
                    max_size=MOST_HEARD,
                    proxy=None if is_loopback(self.url) else True,
                )
                socket = stack.enter_context(opened)
            yield Listener(client, socket)

    def submit(self, graph: Graph, output: str, client: str) -> str | Failure:
        """Queues a graph; returns the id of the prompt.

        Raises:
            StoppedError: If the server does not take the workflow, or cannot be used.
        """
        body = json.dumps({"prompt": graph, "client_id": client}).encode()
        answered = self._exchange("/prompt", body, "application/json")
        if isinstance(answered, Failure):
            return answered
        document = self._document("/prompt", answered)
        errors = document.get("node_errors")
        errors = errors if isinstance(errors, dict) else {}
        if answered.status == 200:
            # The server runs what is sound; what does not lead to the answer may be broken.
            errors = {
                node: entry
                for node, entry in errors.items()
                if node == output or output in (entry.get("dependent_outputs") or ())
            }
        if answered.status != 200 or errors:
            raise StoppedError(
                f"{self.url} does not take the workflow: {_faults(document, errors, graph)}"
            )
        prompt = document.get("prompt_id")
        if not isinstance(prompt, str) or not prompt:
            raise self._foreign("/prompt", answered)
        return prompt

    def finished(self, prompt: str) -> dict[str, Any] | None:
        """The entry of a prompt in the history; None while it waits or runs.

        Raises:
            LostError: If the server does not know it any more.
            StoppedError: If the server cannot be used.
        """
        entry = self._history(prompt)
        if entry is not None or prompt in self._queued():
            return entry
        entry = self._history(prompt)  # it may have ended between the two looks
        if entry is None:
            raise LostError("the server does not know the prompt any more; was it restarted?")
        return entry

    def wait(self, prompt: str, listener: "Listener", deadline: float) -> dict[str, Any] | None:
        """The entry of a prompt in the history as soon as it is there; None at the deadline.

        Raises:
            LostError: If the server does not know it any more.
            StoppedError: If the server cannot be used.
        """
        pause = 0.02
        told = False
        while (left := deadline - time.monotonic()) > 0:
            if not told:
                told = listener.wait_for_end(prompt, min(left, SILENCE))
            entry = self.finished(prompt)
            if entry is not None:
                return entry
            if told:  # a moment before it is written into the history
                time.sleep(min(left, pause))
                pause = min(2 * pause, LOOK)
            elif listener.deaf:
                time.sleep(min(left, LOOK))
        return None

    def cancel(self, prompt: str) -> None:
        """Takes a prompt out of the queue, or interrupts it, if the server is still there."""
        with contextlib.suppress(TransportError, StoppedError):
            body = json.dumps({"delete": [prompt]}).encode()
            exchange(f"{self.url}/queue", body=body, headers=_JSON, timeout=EXCHANGE)
            # Old servers interrupt whatever runs, so look first.
            if prompt in self._queued():
                body = json.dumps({"prompt_id": prompt}).encode()
                exchange(f"{self.url}/interrupt", body=body, headers=_JSON, timeout=EXCHANGE)

    def view(self, file: Mapping[str, Any]) -> bytes | Failure:
        """The content of an image of the history.

        Raises:
            LostError: If it is not there any more.
            StoppedError: If the server cannot be used.
        """
        query = {key: str(file.get(key) or "") for key in ("filename", "subfolder", "type")}
        answered = self._exchange(f"/view?{urlencode(query)}")
        if isinstance(answered, Failure):
            return answered
        if answered.status == 404:
            raise LostError(f"the server has no image {query['filename']} any more")
        if answered.status != 200:
            return Failure("rejected", f"/view: {_shown(answered)}")
        return answered.body

    def _history(self, prompt: str) -> dict[str, Any] | None:
        path = f"/history/{quote(prompt, safe='')}"
        answered = self._exchange(path)
        if isinstance(answered, Failure):
            raise StoppedError(f"{self.url}{path}: {answered.detail}")
        entry = self._document(path, answered).get(prompt)
        return entry if isinstance(entry, dict) else None

    def _queued(self) -> set[str]:
        """Ids of the prompts that run or wait."""
        answered = self._exchange("/queue")
        if isinstance(answered, Failure):
            raise StoppedError(f"{self.url}/queue: {answered.detail}")
        document = self._document("/queue", answered)
        entries = [*(document.get("queue_running") or []), *(document.get("queue_pending") or [])]
        return {str(entry[1]) for entry in entries if isinstance(entry, list) and len(entry) > 1}

    def _exchange(self, path: str, body: bytes | None = None, kind: str = "") -> Answered | Failure:
        """One exchange, repeated where that may help."""
        headers = {"Content-Type": kind} if kind else {}
        attempt = 0
        while True:
            attempt += 1
            try:
                answered = exchange(self.url + path, body=body, headers=headers, timeout=EXCHANGE)
            except TransportError as error:
                failure = Failure(error.reason, f"{path}: {error}")
                if error.reason == "too_large":
                    return failure
            else:
                if answered.status not in TRANSIENT:
                    self._require_comfyui(path, answered)
                    return answered
                failure = Failure("server_error", f"{path}: {_shown(answered)}")
            if attempt > self.retries:
                if failure.reason == "no_connection":
                    raise StoppedError(
                        f"{self.url} does not answer ({failure.detail}); start ComfyUI there, or "
                        "set url=http://HOST:PORT"
                    )
                return Failure(failure.reason, f"{failure.detail} ({attempt} attempts)")
            time.sleep(backoff(attempt - 1, self.first_wait))

    def _require_comfyui(self, path: str, answered: Answered) -> None:
        missing = answered.status == 404 and not path.startswith("/view")
        if missing or answered.status in (401, 403, 405) or 300 <= answered.status < 400:
            raise self._foreign(path, answered)

    def _document(self, path: str, answered: Answered) -> dict[str, Any]:
        try:
            document = json.loads(answered.body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._foreign(path, answered)
        return document

    def _foreign(self, path: str, answered: Answered) -> StoppedError:
        return StoppedError(
            f"{self.url} does not speak as ComfyUI does: {path}: {_shown(answered)}"
        )


_JSON = {"Content-Type": "application/json"}


class Listener:
    """What the server tells one client; deaf where there is no WebSocket, or no more."""

    def __init__(self, client: str, socket: ClientConnection | None) -> None:
        """`client` is the id that prompts are queued under."""
        self.client = client
        self._socket = socket

    @property
    def deaf(self) -> bool:
        """Whether nothing will be heard."""
        return self._socket is None

    def wait_for_end(self, prompt: str, seconds: float) -> bool:
        """Whether the end of a prompt is told within so many seconds; False at once if deaf."""
        deadline = time.monotonic() + seconds
        while self._socket is not None and (left := deadline - time.monotonic()) > 0:
            try:
                message = self._socket.recv(timeout=left)
            except TimeoutError:
                return False
            except (OSError, WebSocketException):
                self.ignore()
                return False
            if isinstance(message, str) and _tells_end(message, prompt):
                return True
        return False

    def ignore(self) -> None:
        """Listens no more."""
        self._socket = None


def _tells_end(message: str, prompt: str) -> bool:
    try:
        document = json.loads(message)
        data = document["data"]
        if data["prompt_id"] != prompt:
            return False
        kind = document["type"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return kind in ENDS or (kind == "executing" and data.get("node") is None)


def _faults(document: Mapping[str, Any], errors: Mapping[str, Any], graph: Graph) -> str:
    """The server's own words about a workflow, with nodes as the editor calls them."""
    said = []
    error = document.get("error")
    if isinstance(error, dict):
        said.append(" ".join(str(error.get(key) or "") for key in ("message", "details")).strip())
    elif error:
        said.append(str(error))
    for node, entry in errors.items():
        for each in (entry.get("errors") or []) if isinstance(entry, dict) else []:
            words = f"{each.get('message', '')}: {each.get('details', '')}".strip(": ")
            said.append(f"{described(graph, node)}: {words[:SHOWN]}")
    return "; ".join(said) or str(document)[:SHOWN]


def _shown(answered: Answered) -> str:
    text = answered.body[:SHOWN].decode(errors="replace")
    return f"status {answered.status}{': ' if text else ''}{text}"
