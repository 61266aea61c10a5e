"""Where files are, and that a file is what the suite was frozen with."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from idbench.prompts.cases import File
from idbench.prompts.sources import DriftError, data_root, folder_source, resolve, source_root


def test_the_data_folder_is_the_variable_or_the_platforms(tmp_path):
    assert data_root({"IDBENCH_DATA": str(tmp_path)}) == tmp_path
    assert data_root({"IDBENCH_DATA": "relative"}) == Path.cwd() / "relative"
    assert data_root({}).is_absolute()
    assert data_root({"IDBENCH_DATA": ""}) == data_root({})


def test_packages_are_located_without_importing_them():
    code = (
        "import sys; from pathlib import Path; from idbench.prompts.sources import source_root\n"
        "assert (source_root('scikit-image', Path('.')) / 'astronaut.png').is_file()\n"
        "assert (source_root('insightface', Path('.')) / 't1.jpg').is_file()\n"
        "print(sorted({'skimage', 'insightface', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_absent_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("idbench.prompts.sources.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'idbench\[embedded\]'"):
        source_root("scikit-image", tmp_path)


def test_an_unknown_source_lists_the_known_ones(tmp_path):
    with pytest.raises(LookupError, match=r"unknown source 'celebA'; known: .*scikit-image"):
        source_root("celebA", tmp_path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "Bilder (1) 名"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "é.png").write_bytes(b"content")
    return root


def _file(path, content=b"content"):
    return File(path=path, sha256=hashlib.sha256(content).hexdigest())


def test_a_file_of_a_folder_is_found_and_verified(folder, tmp_path):
    found = resolve(_file("sub/é.png"), folder_source(folder), tmp_path)
    assert found.read_bytes() == b"content"


def test_a_missing_file_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"sub/x.png is absent; .*import the images again"):
        resolve(_file("sub/x.png"), folder_source(folder), tmp_path)


def test_a_changed_file_is_drift(folder, tmp_path):
    resolve(_file("sub/é.png"), folder_source(folder), tmp_path)
    path = folder / "sub" / "é.png"
    path.write_bytes(b"another")
    os.utime(path, ns=(1, 1))
    with pytest.raises(DriftError, match=hashlib.sha256(b"another").hexdigest()):
        resolve(_file("sub/é.png"), folder_source(folder), tmp_path)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/./b", "sub//é.png", "..\\x", ""])
def test_a_path_out_of_the_source_is_refused(folder, tmp_path, path):
    with pytest.raises(ValueError, match="path"):
        resolve(_file(path), folder_source(folder), tmp_path)


def test_a_link_out_of_the_source_is_refused(folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"content")
    (folder / "link.png").symlink_to(secret)
    with pytest.raises(ValueError, match="link that leads out"):
        resolve(_file("link.png"), folder_source(folder), tmp_path)


def test_the_source_of_the_file_goes_before_the_argument(folder, tmp_path):
    own = File(
        path="sub/é.png",
        sha256=hashlib.sha256(b"content").hexdigest(),
        source=folder_source(folder),
    )
    assert resolve(own, "embedded", tmp_path).name == "é.png"
