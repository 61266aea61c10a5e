"""The catalogue of weights and the store that joins it to files."""

import hashlib
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from idbench.metrics.weights import (
    MissingWeightsError,
    WeightsEntry,
    WeightsFile,
    WeightStore,
    WrongWeightsError,
    load_catalogue,
    weights_root,
)

CONTENT = b"a network, in spirit"
CONTENT_SHA256 = hashlib.sha256(CONTENT).hexdigest()


def entry(key: str = "net", *, files: tuple[WeightsFile, ...], **fields: object) -> WeightsEntry:
    values = {
        "network": "a test network",
        "source": "https://example.org/net",
        "revision": "v1",
        "route": "direct",
        "licence": "MIT",
    } | fields
    return WeightsEntry(key=key, files=files, **values)


def store_of(root: Path, *entries: WeightsEntry) -> WeightStore:
    return WeightStore(root, catalogue={one.key: one for one in entries})


def test_every_entry_says_what_a_reader_needs():
    catalogue = load_catalogue()
    assert len(catalogue) >= 20
    for key, one in catalogue.items():
        assert key == one.key
        assert one.network
        assert one.source
        assert one.revision
        assert one.licence
        assert one.unlocks
        assert one.files
        for file in one.files:
            assert not Path(file.path).is_absolute()
            assert ".." not in Path(file.path).parts
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        urls = [file.url for file in one.files]
        if one.route == "direct":
            assert all(url is not None and url.startswith("https://") for url in urls)
        if one.route == "archive":
            assert str(one.archive_url).startswith("https://")
        if one.route == "wheel":
            assert one.package


def test_the_published_digest_of_openai_clip_is_the_one_in_its_url():
    for key in ("clip_l14", "clip_b32", "clip_b16", "clip_rn50"):
        (file,) = load_catalogue()[key].files
        assert file.sha256 is not None
        assert f"/{file.sha256}/" in str(file.url)


def test_no_two_files_of_the_catalogue_share_a_place():
    paths = [
        file.path for one in load_catalogue().values() if one.route != "wheel" for file in one.files
    ]
    assert len(paths) == len(set(paths))


def test_absent_weights_name_the_command_that_gets_them(tmp_path):
    store = WeightStore(tmp_path)
    with pytest.raises(MissingWeightsError, match="idbench weights fetch inception"):
        store.locate("inception")
    with pytest.raises(MissingWeightsError, match=r"drive\.google.*idbench weights import hopenet"):
        store.locate("hopenet")
    assert not store.is_present("inception")


def test_an_unknown_key_lists_the_known_ones(tmp_path):
    with pytest.raises(LookupError, match=r"unknown weights 'clip_l41'.*clip_l14"):
        WeightStore(tmp_path).locate("clip_l41")
    with pytest.raises(LookupError, match="unknown weights"):
        WeightStore(tmp_path, overrides={"nothing": tmp_path})


def test_import_registers_a_file_under_its_catalogue_name(tmp_path):
    mine = tmp_path / "mine.bin"
    mine.write_bytes(CONTENT)
    store = store_of(tmp_path / "root", entry(files=(WeightsFile(path="deep/net.pth"),)))
    placed = store.import_file("net", mine)
    assert placed == tmp_path / "root" / "deep" / "net.pth"
    assert store.locate("net").read_bytes() == CONTENT
    assert store.digests("net") == {"net.pth": CONTENT_SHA256}
    (check,) = store.verify("net")
    assert check.state == "recorded"


def test_import_refuses_a_file_with_another_digest_and_leaves_nothing(tmp_path):
    mine = tmp_path / "mine.bin"
    mine.write_bytes(b"something else")
    root = tmp_path / "root"
    store = store_of(root, entry(files=(WeightsFile(path="net.pth", sha256=CONTENT_SHA256),)))
    with pytest.raises(WrongWeightsError, match=CONTENT_SHA256):
        store.import_file("net", mine)
    assert list(root.iterdir()) == []


def test_import_takes_a_folder_or_named_files_of_an_entry_with_several(tmp_path):
    files = (WeightsFile(path="net/a.onnx"), WeightsFile(path="net/b.onnx"))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.onnx").write_bytes(b"a")
    store = store_of(tmp_path / "root", entry(files=files))
    with pytest.raises(FileNotFoundError, match=r"b\.onnx"):
        store.import_file("net", folder)
    (folder / "b.onnx").write_bytes(b"b")
    store.import_file("net", folder)
    assert store.locate("net", "b.onnx").read_bytes() == b"b"
    with pytest.raises(LookupError, match=r"other\.onnx"):
        store.import_file("net", folder / "a.onnx", name="other.onnx")
    with pytest.raises(LookupError, match="several"):
        store.locate("net")


def test_verify_notices_a_file_that_changed_since_it_was_recorded(tmp_path):
    store = store_of(tmp_path, entry(files=(WeightsFile(path="net.pth"),)))
    target = tmp_path / "net.pth"
    assert [check.state for check in store.verify("net")] == ["absent"]
    target.write_bytes(CONTENT)
    assert [check.state for check in store.verify("net")] == ["unrecorded"]
    store.digests("net")
    assert [check.state for check in store.verify("net")] == ["recorded"]
    target.write_bytes(b"X" + CONTENT[1:])
    assert [check.state for check in store.verify("net")] == ["wrong"]


def test_verify_compares_with_the_published_digest(tmp_path):
    file = WeightsFile(path="net.pth", sha256=CONTENT_SHA256)
    store = store_of(tmp_path, entry(files=(file,)))
    (tmp_path / "net.pth").write_bytes(CONTENT)
    assert [check.state for check in store.verify("net")] == ["ok"]
    (tmp_path / "net.pth").write_bytes(CONTENT[::-1])
    assert [check.state for check in store.verify("net")] == ["wrong"]
    with pytest.raises(WrongWeightsError, match="idbench weights fetch net"):
        store.digests("net")


def test_a_digest_follows_the_contents_and_not_the_record(tmp_path):
    store = store_of(tmp_path, entry(files=(WeightsFile(path="net.pth"),)))
    (tmp_path / "net.pth").write_bytes(CONTENT)
    assert store.digests("net") == {"net.pth": CONTENT_SHA256}
    (tmp_path / "net.pth").write_bytes(CONTENT * 2)
    again = store_of(tmp_path, entry(files=(WeightsFile(path="net.pth"),)))
    assert again.digests("net") == {"net.pth": hashlib.sha256(CONTENT * 2).hexdigest()}


def test_an_override_wins_over_the_folder(tmp_path):
    mine = tmp_path / "elsewhere.pkl"
    mine.write_bytes(CONTENT)
    store = WeightStore(tmp_path / "root", overrides={"hopenet": mine})
    assert store.locate("hopenet") == mine
    assert store.digests("hopenet") == {"hopenet_robust_alpha1.pkl": CONTENT_SHA256}


def test_a_store_in_a_folder_that_cannot_be_made_still_reads(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")
    mine = tmp_path / "mine.pth"
    mine.write_bytes(CONTENT)
    one = entry(files=(WeightsFile(path="net.pth"),))
    store = WeightStore(blocker / "root", overrides={"net": mine}, catalogue={"net": one})
    assert store.digests("net") == {"net.pth": CONTENT_SHA256}


def test_a_torn_record_is_ignored(tmp_path):
    store = store_of(tmp_path, entry(files=(WeightsFile(path="net.pth"),)))
    (tmp_path / "net.pth").write_bytes(CONTENT)
    (tmp_path / "idbench-weights.json").write_text('{"half', "utf-8")
    assert store.digests("net") == {"net.pth": CONTENT_SHA256}
    assert json.loads((tmp_path / "idbench-weights.json").read_text("utf-8"))


def test_files_inside_an_installed_wheel_are_found_without_importing_it():
    if find_spec("mtcnn") is None:
        pytest.skip("the embedded extra is not installed")
    program = (
        "import sys; from pathlib import Path; from idbench.metrics.weights import WeightStore;"
        "store = WeightStore(Path('nowhere'));"
        "print(store.is_present('mtcnn'), 'mtcnn' in sys.modules, 'torch' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == ["True", "False", "False"]


def test_the_folder_is_the_users_choice():
    assert weights_root({"IDBENCH_WEIGHTS_DIR": "/data/weights"}) == Path("/data/weights")
    assert weights_root({}).name == "weights"
