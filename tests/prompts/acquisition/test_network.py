"""Fetching from servers that run on this machine: git, plain files, and a stand-in for the hub."""

import hashlib
import http.server
import subprocess
import threading

import pytest

from idbench.prompts.acquisition.network import (
    FetchError,
    OfflineError,
    download,
    hub_files,
    require_online,
    sparse_checkout,
)

CONTENT = bytes(range(256)) * 1000


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves `/file`, a file that breaks off, and what the hub answers for one dataset."""

    def do_HEAD(self):
        self._answer(head=True)

    def do_GET(self):
        self._answer(head=False)

    def _answer(self, head):
        routes = {
            "/file": (CONTENT, len(CONTENT)),
            "/short": (CONTENT[:100], len(CONTENT)),
            "/datasets/me/set/resolve/main/data.zip": (CONTENT, len(CONTENT)),
            "/api/datasets/me/set/tree/main": (
                b'[{"type":"file","path":"data.zip","size":1,"oid":"0"},'
                b'{"type":"file","path":"README.md","size":1,"oid":"0"}]',
                None,
            ),
        }
        path = self.path.split("?")[0]
        if path not in routes:
            self.send_error(404)
            return
        body, length = routes[path]
        self.send_response(200)
        self.send_header("Content-Length", str(length or len(body)))
        self.send_header("Content-Type", "application/json" if path.startswith("/api") else "x/y")
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_download_is_hashed_and_renamed(server, tmp_path):
    seen = []
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    target = tmp_path / "deep" / "file.bin"
    found = download(
        f"{server}/file",
        target,
        size=len(CONTENT),
        sha256=sha256,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert found == sha256
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("/short", {}, "broke off after 100 of|IncompleteRead|100 bytes read"),
        ("/file", {"size": 10}, "larger than the 10 bytes"),
        ("/file", {"size": len(CONTENT) + 1}, "expected"),
        ("/file", {"sha256": "0" * 64}, "has sha256 .*, expected 0000"),
        ("/absent", {}, "404"),
    ],
)
def test_a_wrong_download_leaves_nothing(server, tmp_path, path, options, message):
    with pytest.raises(FetchError, match=message):
        download(server + path, tmp_path / "file.bin", **options)
    assert list(tmp_path.iterdir()) == []


def test_only_addresses_are_downloaded(tmp_path):
    with pytest.raises(FetchError, match="not an address"):
        download("/etc/passwd", tmp_path / "x")
    with pytest.raises(FetchError, match="cannot download"):
        download("http://127.0.0.1:9/nothing", tmp_path / "x")


@pytest.mark.parametrize("name", ["IDBENCH_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_is_respected(name):
    require_online({name: "0"}, "do that")
    require_online({}, "do that")
    with pytest.raises(OfflineError, match=f"{name} is set.*do that"):
        require_online({name: "1"}, "do that")


def _git(*arguments, folder):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with two folders, a link, a hook and awkward names; returns (path, commit)."""
    root = tmp_path_factory.mktemp("upstream")
    for path in ("data/images/名前 (1).jpg", "data/prompts/a.txt", "code/big.py", "README"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / "data" / "prompts" / "link").symlink_to("/etc/passwd")
    _git("init", "--quiet", "-b", "main", folder=root)
    _git("config", "uploadpack.allowFilter", "true", folder=root)
    _git("config", "uploadpack.allowAnySHA1InWant", "true", folder=root)
    _git("add", "-A", folder=root)
    _git("commit", "--quiet", "-m", "one", folder=root)
    first = _git("rev-parse", "HEAD", folder=root)
    (root / "data" / "prompts" / "a.txt").write_text("changed later")
    _git("commit", "--quiet", "-am", "two", folder=root)
    return f"file://{root}", first


def test_only_the_asked_paths_of_the_asked_commit_arrive(repository, tmp_path):
    url, commit = repository
    target = tmp_path / "copy"
    sparse_checkout(url, commit, ["data/images", "data/prompts"], target)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert found == {"data/images/名前 (1).jpg", "data/prompts/a.txt", "data/prompts/link"}
    assert (target / "data/prompts/a.txt").read_text() == "data/prompts/a.txt"
    assert not (target / "data/prompts/link").is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize(
    ("url", "revision"),
    [
        (None, "0" * 40),
        (None, "no-such-branch"),
        ("file:///no/such/repository", "main"),
        ("--upload-pack=touch /tmp/x", "main"),
        (None, "--force"),
        ("ext::sh -c touch% /tmp/x", "main"),
    ],
)
def test_a_failed_checkout_leaves_nothing(repository, tmp_path, url, revision):
    with pytest.raises(FetchError):
        sparse_checkout(url or repository[0], revision, ["data"], tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(repository, tmp_path):
    (tmp_path / "copy").mkdir()
    with pytest.raises(FileExistsError):
        sparse_checkout(*repository, ["data"], tmp_path / "copy")


class TestHub:
    @pytest.fixture(autouse=True)
    def _library(self, monkeypatch):
        pytest.importorskip("huggingface_hub")
        # read once, at import, from a variable that keeps other tests off the network
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        # which the library sends to the real hub, whatever the endpoint
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)

    def test_a_named_file_is_fetched(self, server, tmp_path):
        files = hub_files("me/set", "main", ["data.zip"], tmp_path / "hub", endpoint=server)
        assert [path.read_bytes() for path in files] == [CONTENT]

    def test_a_pattern_is_matched(self, server, tmp_path):
        files = hub_files("me/set", "main", ["*.zip"], tmp_path / "hub", endpoint=server)
        assert [path.name for path in files] == ["data.zip"]

    def test_what_is_not_there_is_our_own_error(self, server, tmp_path):
        with pytest.raises(FetchError, match="cannot fetch me/other"):
            hub_files("me/other", "main", ["data.zip"], tmp_path / "hub", endpoint=server)
        with pytest.raises(FetchError, match=r"has no file like \*.tar"):
            hub_files("me/set", "main", ["*.tar"], tmp_path / "hub", endpoint=server)
