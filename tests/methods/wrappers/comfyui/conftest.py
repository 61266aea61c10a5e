"""A local server that speaks as ComfyUI does, over HTTP and WebSocket, well and badly."""

import contextlib
import email
import email.policy
import hashlib
import io
import json
import queue
import select
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from PIL import Image

websockets_server = pytest.importorskip("websockets.server", reason="needs the comfyui extra")
InvalidState = pytest.importorskip("websockets.exceptions").InvalidState

# The nodes that the server has, with the inputs that each must have.
NODES = {
    "CheckpointLoaderSimple": ("ckpt_name",),
    "CLIPTextEncode": ("text", "clip"),
    "LoadImage": ("image",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "KSampler": ("seed", "steps", "positive", "negative", "latent_image"),
    "VAEDecode": ("samples",),
    "SaveImage": ("images", "filename_prefix"),
}


class Comfy:
    """Runs the graphs that it is sent, one after the other.

    `faults` are what goes wrong, each once, in the order of their places: "no_socket",
    "close_socket", "silent", "upload_500", "prompt_500", "prompt_cut", "history_500", "view_500",
    "view_words", "view_cut", "slow", "error", "oom", "interrupted", "forget", "batch", "no_image".
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.paths: list[str] = []
        self.ran: list[str] = []
        self.graphs: list[dict[str, Any]] = []
        self.inputs: dict[str, bytes] = {}
        self.outputs: dict[str, bytes] = {}
        self.history: dict[str, Any] = {}
        self.pending: list[tuple[str, dict[str, Any], str]] = []
        self.running: str | None = None
        self.sockets: dict[str, queue.Queue[Any]] = {}
        self.work = threading.Condition()
        self.stopping = threading.Event()
        self.interrupted = threading.Event()
        self.most = 10**9  # prompts that are run; those after them wait
        handler = type("Handler", (ComfyHandler,), {"comfy": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.threads = [
            threading.Thread(target=self.server.serve_forever, args=(0.02,)),
            threading.Thread(target=self.execute_all),
        ]
        for thread in self.threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.stopping.set()
        with self.work:
            self.work.notify_all()
        self.server.shutdown()
        for thread in self.threads:
            thread.join()
        self.server.server_close()

    def fault(self, *names: str) -> str | None:
        for name in names:
            if name in self.faults:
                self.faults.remove(name)
                return name
        return None

    def tell(self, client: str, kind: str, **data: Any) -> None:
        if client in self.sockets:
            self.sockets[client].put(json.dumps({"type": kind, "data": data}))

    def checked(self, graph: dict[str, Any]) -> dict[str, Any]:
        """What the server has against a graph, as its own validation words it."""
        errors: dict[str, Any] = {}
        for node, entry in graph.items():
            found = [
                {
                    "type": "required_input_missing",
                    "message": "Required input is missing",
                    "details": name,
                    "extra_info": {"input_name": name},
                }
                for name in NODES[entry["class_type"]]
                if name not in entry["inputs"]
            ]
            image = entry["inputs"].get("image")
            if isinstance(image, str) and image not in self.inputs:
                found.append(
                    {
                        "type": "custom_validation_failed",
                        "message": "Custom validation failed for node",
                        "details": f"image - Invalid image file: {image}",
                        "extra_info": {},
                    }
                )
            if found:
                saves = [n for n, e in graph.items() if e["class_type"] == "SaveImage"]
                errors[node] = {
                    "errors": found,
                    "dependent_outputs": saves,
                    "class_type": entry["class_type"],
                }
        return errors

    def execute_all(self) -> None:
        while True:
            with self.work:
                while not self.stopping.is_set() and (
                    not self.pending or len(self.ran) >= self.most
                ):
                    self.work.wait(0.02)
                if self.stopping.is_set():
                    return
                prompt, graph, client = self.pending.pop(0)
                self.running = prompt
            self.execute(prompt, graph, client)

    def execute(self, prompt: str, graph: dict[str, Any], client: str) -> None:
        self.interrupted.clear()
        fault = self.fault(
            "close_socket", "silent", "slow", "error", "oom", "interrupted", "forget", "batch",
            "no_image",
        )  # fmt: skip
        if fault == "close_socket" and client in self.sockets:
            self.sockets[client].put(None)
        told = fault not in ("close_socket", "silent")
        if told:
            self.tell(client, "execution_start", prompt_id=prompt)
            self.tell(client, "executing", node=next(iter(graph)), prompt_id=prompt)
            if client in self.sockets:
                self.sockets[client].put(b"\0\0\0\1\0\0\0\1 a preview")
        if fault == "slow":
            self.interrupted.wait(30)
            fault = "interrupted"
        time.sleep(0.01)
        self.ran.append(prompt)
        outputs, status = self.result(prompt, graph, fault)
        end = (
            "execution_success" if status["status_str"] == "success" else status["messages"][-1][0]
        )
        if told:
            # As there: the end is told before it is written down.
            self.tell(client, end, prompt_id=prompt)
            time.sleep(0.01)
        with self.work:
            self.running = None
            if fault != "forget":
                self.history[prompt] = {"outputs": outputs, "status": status}
        if told:
            self.tell(client, "executing", node=None, prompt_id=prompt)

    def result(
        self, prompt: str, graph: dict[str, Any], fault: str | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        sampler = next(n for n, e in graph.items() if e["class_type"] == "KSampler")
        if fault in ("error", "oom", "interrupted"):
            data = {
                "prompt_id": prompt,
                "node_id": sampler,
                "node_type": "KSampler",
                "exception_message": "Allocation on device" if fault == "oom" else "shapes\ndiffer",
                "exception_type": "torch.OutOfMemoryError" if fault == "oom" else "RuntimeError",
                "traceback": [],
            }
            kind = "execution_interrupted" if fault == "interrupted" else "execution_error"
            return {}, {"status_str": "error", "completed": False, "messages": [[kind, data]]}
        (save,) = (n for n, e in graph.items() if e["class_type"] == "SaveImage")
        names = [f"idbench_{prompt}_{k}.png" for k in range(2 if fault == "batch" else 1)]
        for name in names:
            self.outputs[name] = self.paint(graph)
        images = [{"filename": name, "subfolder": "", "type": "output"} for name in names]
        outputs = {} if fault == "no_image" else {save: {"images": images}}
        return outputs, {"status_str": "success", "completed": True, "messages": []}

    def paint(self, graph: dict[str, Any]) -> bytes:
        """The first image that is loaded at the size of the latents, marked by all inputs."""
        latent = next(e["inputs"] for e in graph.values() if e["class_type"] == "EmptyLatentImage")
        size = (latent["width"], latent["height"])
        loaded = [e["inputs"]["image"] for e in graph.values() if e["class_type"] == "LoadImage"]
        if loaded:
            with Image.open(io.BytesIO(self.inputs[loaded[0]])) as image:
                picture = image.convert("RGB").resize(size)
        else:
            picture = Image.new("RGB", size)
        told = {node: entry["inputs"] for node, entry in graph.items()}
        mark = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for name in loaded:
            mark.update(self.inputs[name])
        picture.putpixel((0, 0), tuple(mark.digest()[:3]))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


class ComfyHandler(BaseHTTPRequestHandler):
    comfy: Comfy

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.get()

    def do_POST(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.post(self.rfile.read(int(self.headers["Content-Length"])))

    def get(self) -> None:
        comfy, parts = self.comfy, urlsplit(self.path)
        comfy.paths.append(f"GET {parts.path}")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/ws":
            if comfy.fault("no_socket"):
                self.reply(b"", status=500)
            else:
                self.talk(query["clientId"])
        elif parts.path.startswith("/history/"):
            if comfy.fault("history_500"):
                self.reply(b"oops", status=500)
                return
            prompt = parts.path.removeprefix("/history/")
            with comfy.work:
                entry = comfy.history.get(prompt)
            self.reply_json({prompt: entry} if entry else {})
        elif parts.path == "/queue":
            with comfy.work:
                running = [[0, comfy.running, {}, {}, []]] if comfy.running else []
                pending = [[1, prompt, {}, {}, []] for prompt, _, _ in comfy.pending]
            self.reply_json({"queue_running": running, "queue_pending": pending})
        elif parts.path == "/view":
            content = comfy.outputs.get(query["filename"])
            if content is None:
                self.reply(b"", status=404)
                return
            fault = comfy.fault("view_500", "view_words", "view_cut")
            status = 500 if fault == "view_500" else 200
            words = b"<html>no image</html>"
            self.reply(
                words if fault == "view_words" else content,
                status=status,
                cut=200 if fault == "view_cut" else 0,
            )
        else:
            self.reply(b"", status=404)

    def post(self, body: bytes) -> None:
        comfy, path = self.comfy, urlsplit(self.path).path
        comfy.paths.append(f"POST {path}")
        if path == "/upload/image":
            if comfy.fault("upload_500"):
                self.reply(b"disk full", status=500)
                return
            name, content = uploaded(self.headers["Content-Type"], body)
            comfy.inputs[name] = content
            self.reply_json({"name": name, "subfolder": "", "type": "input"})
        elif path == "/prompt":
            fault = comfy.fault("prompt_500", "prompt_cut")
            if fault == "prompt_500":
                self.reply(b"oops", status=500)
                return
            self.queue(json.loads(body), cut=5 if fault else 0)
        elif path == "/queue":
            with comfy.work:
                gone = json.loads(body)["delete"]
                comfy.pending = [entry for entry in comfy.pending if entry[0] not in gone]
            self.reply(b"")
        elif path == "/interrupt":
            comfy.interrupted.set()
            self.reply(b"")
        else:
            self.reply(b"", status=404)

    def queue(self, document: dict[str, Any], cut: int) -> None:
        comfy, graph = self.comfy, document["prompt"]
        strange = [
            entry["class_type"] for entry in graph.values() if entry["class_type"] not in NODES
        ]
        if strange:
            error = {
                "type": "missing_node_type",
                "message": f"Node '{strange[0]}' not found.",
                "details": "The custom node may not be installed.",
                "extra_info": {},
            }
            self.reply_json({"error": error, "node_errors": {}}, status=400)
            return
        errors = comfy.checked(graph)
        if errors:
            error = {
                "type": "prompt_outputs_failed_validation",
                "message": "Prompt outputs failed validation",
                "details": "",
                "extra_info": {},
            }
            self.reply_json({"error": error, "node_errors": errors}, status=400)
            return
        prompt = str(uuid4())
        with comfy.work:
            comfy.graphs.append(graph)
            comfy.pending.append((prompt, graph, document["client_id"]))
            comfy.work.notify_all()
        self.reply_json({"prompt_id": prompt, "number": 1, "node_errors": {}}, cut=cut)

    def reply_json(self, document: object, status: int = 200, cut: int = 0) -> None:
        self.reply(json.dumps(document).encode(), status=status, cut=cut)

    def reply(self, body: bytes, status: int = 200, cut: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])
        self.wfile.flush()

    def talk(self, client: str) -> None:
        """The WebSocket of one client, by the protocol machine of `websockets`."""
        protocol = websockets_server.ServerProtocol()
        head = self.raw_requestline + bytes(self.headers.as_bytes(policy=CRLF))
        protocol.receive_data(head)
        (request,) = protocol.events_received()
        protocol.send_response(protocol.accept(request))
        waiting: queue.Queue[Any] = queue.Queue()
        self.comfy.sockets[client] = waiting
        self.close_connection = True
        try:
            while not self.comfy.stopping.is_set():
                for data in protocol.data_to_send():
                    if data:
                        self.connection.sendall(data)
                    else:
                        return
                if select.select([self.connection], [], [], 0.005)[0]:
                    data = self.connection.recv(65536)
                    if data:
                        protocol.receive_data(data)
                        protocol.events_received()
                    else:
                        return
                # The client may have said goodbye meanwhile.
                with contextlib.suppress(queue.Empty, InvalidState):
                    message = waiting.get_nowait()
                    if message is None:  # cut the wire in the middle of everything
                        return
                    send = protocol.send_text if isinstance(message, str) else protocol.send_binary
                    send(message.encode() if isinstance(message, str) else message)
        finally:
            self.comfy.sockets.pop(client, None)


CRLF = email.policy.HTTP


def uploaded(kind: str, body: bytes) -> tuple[str, bytes]:
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    fields = {
        part.get_param("name", header="content-disposition"): part for part in message.get_payload()
    }
    assert fields["type"].get_payload(decode=True) == b"input"
    image = fields["image"]
    return image.get_filename(), image.get_payload(decode=True)


def graph(**titles: str) -> dict[str, Any]:
    """A workflow of text and a reference to an image, in API format, as the editor exports it."""
    nodes = {
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "sd15.safetensors"}, "Load Checkpoint"),
        "6": ("CLIPTextEncode", {"text": "placeholder", "clip": ["4", 1]}, "prompt"),
        "7": ("CLIPTextEncode", {"text": "blurry", "clip": ["4", 1]}, "Negative Prompt"),
        "10": ("LoadImage", {"image": "example.png"}, "Reference"),
        "5": ("EmptyLatentImage", {"width": 96, "height": 64, "batch_size": 1}, "size"),
        "3": (
            "KSampler",
            {
                "seed": 1,
                "steps": 20,
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
                "model": ["4", 0],
            },
            "seed",
        ),
        "8": ("VAEDecode", {"samples": ["3", 0]}, "VAE Decode"),
        "9": ("SaveImage", {"images": ["8", 0], "filename_prefix": "idbench"}, "output"),
    }
    return {
        node: {
            "inputs": inputs,
            "class_type": kind,
            "_meta": {"title": titles.get(f"n{node}", title)},
        }
        for node, (kind, inputs, title) in nodes.items()
    }


@pytest.fixture
def workflow_graph() -> Callable[..., dict[str, Any]]:
    return graph


@pytest.fixture
def workflow(tmp_path) -> Callable[..., str]:
    """Writes a workflow and returns its name for `--method`."""

    def write(document: object = None) -> str:
        path = tmp_path / "portrait.json"
        path.write_text(json.dumps(graph() if document is None else document))
        return f"comfyui:{path}"

    return write


@pytest.fixture
def comfy() -> Iterator[Comfy]:
    """A server of its own for one test."""
    server = Comfy()
    yield server
    server.close()
