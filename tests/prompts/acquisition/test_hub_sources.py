"""Sources of the Hugging Face hub from a stand-in on this machine: pinned, verified, recorded."""

import contextlib
import hashlib
import http.server
import importlib
import io
import json
import threading

import pytest
from PIL import Image

from idbench.prompts.acquisition.acquire import FetchOptions, fetch
from idbench.prompts.acquisition.network import FetchError
from idbench.prompts.acquisition.state import read_state
from idbench.prompts.sources import source_root

COMMIT = "a" * 40


@pytest.fixture(autouse=True)
def _online(monkeypatch):
    pytest.importorskip("huggingface_hub")
    # read once, at import, from a variable that keeps other tests off the network
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # Newer versions ask the public hub, whatever the mirror, which programs are known to call it.
    with contextlib.suppress(ImportError):
        module = importlib.import_module("huggingface_hub.utils._detect_agent")
        monkeypatch.setattr(module, "_registry", module._EMPTY_REGISTRY)


@pytest.fixture
def hub():
    """Starts a server for one dataset with one file on the branch main; gives its address."""
    started = []

    def start(dataset, name, content):
        listing = [{"type": "file", "path": name, "size": len(content), "oid": "0"}]
        facts = {"id": dataset, "sha": COMMIT, "siblings": [{"rfilename": name}]}
        routes = {
            f"/api/datasets/{dataset}/revision/main": json.dumps(facts).encode(),
            f"/api/datasets/{dataset}/tree/{COMMIT}": json.dumps(listing).encode(),
            f"/datasets/{dataset}/resolve/{COMMIT}/{name}": content,
        }

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                body = routes.get(self.path.split("?")[0])
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                kind = "application/json" if self.path.startswith("/api") else "x/y"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        started.append(running)
        return f"http://127.0.0.1:{running.server_port}"

    yield start
    for running in started:
        running.shutdown()
        running.server_close()


def _options(mirror, *terms):
    return FetchOptions(environment={}, accept=frozenset(terms), mirror=mirror)


def test_the_commit_behind_a_branch_is_recorded(hub, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    image = {"bytes": picture.getvalue(), "path": None}
    row = {
        "ID": "one", "GT": image, "input_images": [image], "prompt": "p", "task_type": "t",
        "bboxes": "[]", "subset": "v202", "num_persons": 1,
    }  # fmt: skip
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row]), table)
    server = hub("WithAnyone/MultiID-Bench", "data/rows.parquet", table.getvalue())
    found = fetch("multiid_bench", tmp_path, _options(server, "multiid-2m"))
    assert (found.state, found.present, found.expected) == ("partial", 1, 433)
    assert read_state("multiid_bench", tmp_path).revision == COMMIT
    root = source_root("multiid_bench", tmp_path)
    assert root.name == COMMIT
    assert (root / "one" / "ori.png").read_bytes() == image["bytes"]


def test_another_archive_than_the_known_one_is_refused(hub, tmp_path):
    server = hub("yuangpeng/dreambench_plus", "data.zip", b"another archive")
    with pytest.raises(FetchError, match=r"data\.zip has sha256 .*, expected fabdaac1cbff"):
        fetch("dreambench_plus", tmp_path, _options(server, "dreambench-plus"))
    folder = tmp_path / "sources" / "dreambench_plus"
    assert [path.name for path in folder.iterdir()] == ["state.json"]


def test_a_hub_without_the_dataset_is_our_own_error(hub, tmp_path):
    server = hub("somebody/else", "data.zip", b"")
    with pytest.raises(FetchError, match="cannot reach yuangpeng/dreambench_plus on the hub"):
        fetch("dreambench_plus", tmp_path, _options(server, "dreambench-plus"))
