"""Downloads, against a real server on this machine."""

import hashlib
import io
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from idbench.metrics.fetch import OfflineError, TermsError, fetch, is_offline
from idbench.metrics.weights import WeightsEntry, WeightsFile, WeightStore, WrongWeightsError

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/truncated.bin":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:1000])
        else:
            super().do_GET()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def store_for(root: Path, *files: WeightsFile, **fields: object) -> WeightStore:
    values = {
        "network": "a test network",
        "source": "https://example.org",
        "revision": "v1",
        "route": "direct",
        "licence": "MIT",
    } | fields
    return WeightStore(root, catalogue={"net": WeightsEntry(key="net", files=files, **values)})


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return buffer.getvalue()


def everything_in(root: Path) -> set[str]:
    found = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    return found - {"idbench-weights.json"}


def test_a_file_is_fetched_verified_and_recorded(server, tmp_path):
    folder, url = server
    (folder / "net.pth").write_bytes(CONTENT)
    root = tmp_path / "root"
    store = store_for(root, WeightsFile(path="a/net.pth", url=f"{url}/net.pth", sha256=SHA256))
    seen = []
    (path,) = fetch(store, "net", report=lambda *progress: seen.append(progress))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("net.pth", len(CONTENT), len(CONTENT))
    assert [check.state for check in store.verify("net")] == ["ok"]
    assert everything_in(root) == {"a/net.pth"}


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    folder, url = server
    (folder / "net.pth").write_bytes(CONTENT)
    store = store_for(tmp_path / "root", WeightsFile(path="net.pth", url=f"{url}/net.pth"))
    assert len(fetch(store, "net")) == 1
    (folder / "net.pth").unlink()
    assert fetch(store, "net", offline=True) == []


def test_a_file_with_another_digest_is_not_kept(server, tmp_path):
    folder, url = server
    (folder / "net.pth").write_bytes(CONTENT[::-1])
    root = tmp_path / "root"
    store = store_for(root, WeightsFile(path="net.pth", url=f"{url}/net.pth", sha256=SHA256))
    with pytest.raises(WrongWeightsError, match="was not kept"):
        fetch(store, "net")
    assert everything_in(root) == set()


@pytest.mark.parametrize("name", ["absent.bin", "truncated.bin"])
def test_a_failed_download_leaves_nothing_behind(server, tmp_path, name):
    _, url = server
    root = tmp_path / "root"
    store = store_for(root, WeightsFile(path="net.pth", url=f"{url}/{name}"))
    with pytest.raises(ConnectionError, match=name):
        fetch(store, "net")
    assert everything_in(root) == set()


def test_offline_mode_is_honoured(server, tmp_path):
    _, url = server
    store = store_for(tmp_path / "root", WeightsFile(path="net.pth", url=f"{url}/net.pth"))
    with pytest.raises(OfflineError, match="idbench weights import net"):
        fetch(store, "net", offline=True)
    assert is_offline({"IDBENCH_OFFLINE": "1"})
    assert is_offline({"HF_HUB_OFFLINE": "true"})
    assert not is_offline({"IDBENCH_OFFLINE": "0"})
    assert not is_offline({})


def test_terms_must_be_accepted_first(server, tmp_path):
    folder, url = server
    (folder / "net.pth").write_bytes(CONTENT)
    file = WeightsFile(path="net.pth", url=f"{url}/net.pth")
    store = store_for(tmp_path / "root", file, terms="Research only.")
    with pytest.raises(TermsError, match=r"Research only.*--accept-terms"):
        fetch(store, "net")
    assert len(fetch(store, "net", accept_terms=True)) == 1


def test_a_nested_archive_is_flattened(server, tmp_path):
    folder, url = server
    members = {"pack/pack/a.onnx": b"a" * 10, "pack/pack/b.onnx": b"b" * 10, "pack/readme": b""}
    (folder / "pack.zip").write_bytes(archive(members))
    root = tmp_path / "root"
    files = (WeightsFile(path="pack/a.onnx"), WeightsFile(path="pack/b.onnx"))
    store = store_for(root, *files, route="archive", archive_url=f"{url}/pack.zip")
    assert len(fetch(store, "net")) == 2
    assert everything_in(root) == {"pack/a.onnx", "pack/b.onnx"}
    assert store.locate("net", "a.onnx").read_bytes() == b"a" * 10


@pytest.mark.parametrize("name", ["../../a.onnx", "/etc/a.onnx", "..\\..\\a.onnx"])
def test_a_hostile_member_name_cannot_leave_the_folder(server, tmp_path, name):
    folder, url = server
    (folder / "pack.zip").write_bytes(archive({name: b"a"}))
    root = tmp_path / "deep" / "root"
    file = WeightsFile(path="pack/a.onnx")
    store = store_for(root, file, route="archive", archive_url=f"{url}/pack.zip")
    fetch(store, "net")
    assert everything_in(root) == {"pack/a.onnx"}
    assert not list(tmp_path.glob("a.onnx")) + list((tmp_path / "deep").glob("a.onnx"))


@pytest.mark.parametrize("members", [{"other.onnx": b"a"}, {"x/a.onnx": b"1", "y/a.onnx": b"2"}])
def test_an_archive_without_the_one_member_is_refused(server, tmp_path, members):
    folder, url = server
    (folder / "pack.zip").write_bytes(archive(members))
    root = tmp_path / "root"
    file = WeightsFile(path="a.onnx")
    store = store_for(root, file, route="archive", archive_url=f"{url}/pack.zip")
    with pytest.raises(WrongWeightsError, match=r"files named a\.onnx"):
        fetch(store, "net")
    assert everything_in(root) == set()


def test_what_is_no_archive_is_refused(server, tmp_path):
    folder, url = server
    (folder / "pack.zip").write_bytes(b"<html>sign in</html>")
    root = tmp_path / "root"
    file = WeightsFile(path="a.onnx")
    store = store_for(root, file, route="archive", archive_url=f"{url}/pack.zip")
    with pytest.raises(WrongWeightsError, match="no zip archive"):
        fetch(store, "net")
    assert everything_in(root) == set()


def test_files_for_a_browser_say_where_they_are(tmp_path):
    store = store_for(tmp_path, WeightsFile(path="net.pth"), route="manual")
    with pytest.raises(PermissionError, match=r"example\.org.*idbench weights import net"):
        fetch(store, "net")


def test_plain_http_to_another_machine_is_refused(tmp_path):
    store = store_for(tmp_path, WeightsFile(path="net.pth", url="http://example.org/net.pth"))
    with pytest.raises(ConnectionError, match="not https"):
        fetch(store, "net")
