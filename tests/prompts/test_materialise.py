"""Building derived pictures on first use; verifying the rest; downloading nothing."""

import hashlib
from dataclasses import replace
from importlib.util import find_spec

import pytest

from idbench.prompts.materialise import build_picture, materialise, suite_files
from idbench.prompts.sources import DriftError, resolve
from idbench.prompts.suites import load_suite

pytestmark = pytest.mark.skipif(
    not (find_spec("skimage") and find_spec("insightface")),
    reason="the photographs come with scikit-image and insightface",
)

BUNDLED = ("demo", "tiny-single", "tiny-long", "tiny-multi", "tiny-subject", "tiny-edit")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in BUNDLED:
        materialise(load_suite(name, data_root=root), root)
    return root


@pytest.mark.parametrize("name", BUNDLED)
def test_every_file_of_a_bundled_suite_is_there_afterwards(built, name):
    suite = load_suite(name, data_root=built)
    files = suite_files(suite)
    assert files
    for (source, _), file in files.items():
        path = resolve(file, source, built)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


def test_progress_counts_up_to_the_number_of_files(tmp_path):
    seen = []
    suite = load_suite("tiny-edit", data_root=tmp_path)
    materialise(suite, tmp_path, progress=lambda done, total, path: seen.append((done, total)))
    total = len(suite_files(suite))
    assert seen == [(number, total) for number in range(1, total + 1)]


def test_a_second_call_writes_nothing(built):
    folder = built / "sources" / "embedded"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    materialise(load_suite("demo", data_root=built), built)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_damaged_picture_is_built_again_and_no_rest_is_left(tmp_path):
    suite = load_suite("tiny-multi", data_root=tmp_path)
    materialise(suite, tmp_path)
    folder = tmp_path / "sources" / "embedded"
    for path in folder.rglob("*.ppm"):
        path.write_bytes(path.read_bytes()[:100])
    materialise(suite, tmp_path)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".ppm"}
    for (source, _), file in suite_files(suite).items():
        resolve(file, source, tmp_path)


def test_photographs_are_read_in_place(built):
    kept = {path.suffix for path in built.rglob("*") if path.is_file()}
    assert kept == {".ppm", ".pgm"}


def test_a_recipe_that_yields_something_else_is_drift(tmp_path):
    suite = load_suite("tiny-multi", data_root=tmp_path)
    file = next(file for (source, _), file in suite_files(suite).items() if source == "embedded")
    with pytest.raises(DriftError, match="frozen with " + "0" * 64):
        build_picture(replace(file, sha256="0" * 64), tmp_path)
    with pytest.raises(LookupError, match=r"no recipe makes 'x.ppm'"):
        build_picture(replace(file, path="x.ppm"), tmp_path)


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "sources").write_text("a file in the way")
    with pytest.raises(OSError, match="sources"):
        materialise(load_suite("tiny-multi", data_root=tmp_path), tmp_path)
