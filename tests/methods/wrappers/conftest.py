"""A local service for images over HTTP, which behaves as it is told."""

import base64
import contextlib
import email
import hashlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

KEY = "sk-local-4f9c/0+secret"


@dataclass
class Asked:
    """One request as it came, and what is in it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    fields: dict[str, Any] = field(default_factory=dict)
    pictures: list[Image.Image] = field(default_factory=list)
    at: float = field(default_factory=time.monotonic)


@dataclass
class Reply:
    """What goes back; `cut` leaves out the end of what Content-Length promises."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0


Behaviour = Callable[[Asked, int, Any], Reply | None]


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def picture_for(asked: Asked) -> Image.Image:
    """The picture that was sent, or a plain one, marked by everything that was asked."""
    width, _, height = str(asked.fields.get("size", "")).partition("x")
    size = (int(width), int(height)) if width.isdecimal() else (64, 48)
    given = asked.pictures[0] if asked.pictures else Image.new("RGB", size)
    picture = given.convert("RGB").resize(size) if width.isdecimal() else given.convert("RGB")
    picture.putpixel((0, 0), tuple(hashlib.sha256(asked.body).digest()[:3]))
    return picture


def picture_reply(asked: Asked) -> Reply:
    text = base64.b64encode(png(picture_for(asked))).decode()
    return Reply(body=json.dumps({"data": [{"b64_json": text}]}).encode())


def error_reply(status: int, code: str, message: str = "no", **headers: str) -> Reply:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return Reply(status=status, body=body, headers=headers)


class Service:
    """Answers as `behave` says, given what was asked, its number from 0, and the handler.

    None says that the behaviour has dealt with the connection itself. `asked` holds every request,
    `answered` counts the bodies of those that were answered to the last byte.
    """

    def __init__(self, behave: Behaviour | None = None) -> None:
        self.behave = behave or (lambda asked, number, handler: picture_reply(asked))
        self.asked: list[Asked] = []
        self.answered: Counter[bytes] = Counter()
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self.answer(b"")

            def do_POST(self) -> None:
                self.answer(self.rfile.read(int(self.headers["Content-Length"])))

            def answer(self, body: bytes) -> None:
                asked = parsed(self, body)
                with service.lock:
                    number = len(service.asked)
                    service.asked.append(asked)
                    service.busy += 1
                    service.most_busy = max(service.most_busy, service.busy)
                try:
                    # The other side may be gone, by a kill or a time-out.
                    with contextlib.suppress(ConnectionError, TimeoutError):
                        reply = service.behave(asked, number, self)
                        if reply is not None:
                            self.reply(reply)
                            with service.lock:
                                service.answered[body] += reply.status == 200
                finally:
                    with service.lock:
                        service.busy -= 1

            def reply(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in {"Content-Length": len(reply.body), **reply.headers}.items():
                    self.send_header(name.replace("_", "-"), str(value))
                self.end_headers()
                self.wfile.write(reply.body[: len(reply.body) - reply.cut])
                self.wfile.flush()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def parsed(handler: BaseHTTPRequestHandler, body: bytes) -> Asked:
    headers = {name.lower(): value for name, value in handler.headers.items()}
    asked = Asked(handler.command, handler.path, headers, body)
    kind = headers.get("content-type", "")
    if kind.startswith("multipart/"):
        # Python's own reader of MIME, which knows nothing of the writer under test.
        message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        for part in message.get_payload():
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            if part.get_filename():
                asked.fields.setdefault(name, []).append(part.get_filename())
                asked.pictures.append(Image.open(io.BytesIO(content)))
            else:
                asked.fields[name] = content.decode()
    elif kind == "application/json" and body:
        asked.fields = json.loads(body)
        for value in asked.fields.get("images", []):
            content = base64.b64decode(value.partition("base64,")[2])
            asked.pictures.append(Image.open(io.BytesIO(content)))
    return asked


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    """Starts services; they are closed at the end of the test."""
    started: list[Service] = []

    def start(behave: Behaviour | None = None) -> Service:
        started.append(Service(behave))
        return started[-1]

    yield start
    for service in started:
        service.close()


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """The key of the local service, in the environment."""
    monkeypatch.setenv("LOCAL_KEY", KEY)
    return KEY


@pytest.fixture
def replies():
    """Ways to answer."""

    class Replies:
        Reply = Reply
        picture = staticmethod(picture_reply)
        error = staticmethod(error_reply)
        png = staticmethod(png)
        picture_for = staticmethod(picture_for)

    return Replies
