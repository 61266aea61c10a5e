"""Texts of foreign lists as files: moved, mixed, hostile."""

import unicodedata

import pytest

from idbench.prompts.formats.paths import PathRules, RefusedPathError, parse_path_map


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "list"
    (root / "多重 (1)").mkdir(parents=True)
    (root / "多重 (1)" / "José 2.png").write_bytes(b"1")
    (tmp_path / "secret.png").write_bytes(b"2")
    return root


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("prefix", ["多重 (1)/", "多重 (1)\\", "./多重 (1)/"])
def test_relative_paths_in_any_spelling(folder, prefix, form):
    text = unicodedata.normalize(form, prefix + "José 2.png")
    found = PathRules(folder=folder).find(text)
    assert found is not None
    assert found.read_bytes() == b"1"


def test_an_absolute_path_is_the_users_word(folder, tmp_path):
    assert PathRules(folder=folder).find(str(tmp_path / "secret.png")).read_bytes() == b"2"
    assert PathRules(folder=folder).find("/no/such/file.png") is None
    assert PathRules(folder=folder).find("/" + "x" * 5000) is None


@pytest.mark.parametrize(
    ("old", "text"),
    [
        ("/home/gdli7/IBench/", "/home/gdli7/IBench/secret.png"),
        ("/home/gdli7/IBench", "/home/gdli7/IBench/secret.png"),
        ("D:\\data\\", "D:\\data\\secret.png"),
    ],
)
def test_a_prefix_that_moved(folder, tmp_path, old, text):
    rules = PathRules(folder=folder, path_map=[("/other", "/x"), (old, str(tmp_path))])
    assert rules.find(text).read_bytes() == b"2"


def test_the_first_prefix_that_fits_counts(folder, tmp_path):
    rules = PathRules(folder=folder, path_map=[("/a/b", "/nowhere"), ("/a", str(tmp_path))])
    assert rules.find("/a/b/secret.png") is None


@pytest.mark.parametrize(
    "text", ["../secret.png", "a/../../secret.png", "..\\secret.png", "C:/x.png"]
)
def test_a_relative_path_out_of_the_folder_is_refused(folder, text):
    with pytest.raises(RefusedPathError, match="leads out of"):
        PathRules(folder=folder).find(text)


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(RefusedPathError, match="link that leads out"):
        PathRules(folder=folder).find("link.png")


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_what_is_no_path_is_refused(folder, text):
    with pytest.raises(RefusedPathError):
        PathRules(folder=folder).find(text)


def test_addresses_are_refused_without_leave(folder, tmp_path):
    for text in ("http://x/y.png", "https://x/y.png", "ftp://x/y.png", "file:///etc/passwd"):
        with pytest.raises(RefusedPathError, match="--allow-download"):
            PathRules(folder=folder).find(text)


def test_addresses_are_fetched_once_with_leave(folder, tmp_path):
    asked = []

    def fetch(address, target):
        asked.append(address)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(address.encode())

    rules = PathRules(folder=folder, fetch=fetch, downloads=tmp_path / "downloads")
    first = rules.find("https://x/a/y.png?size=3")
    assert first == rules.find("https://x/a/y.png?size=3")
    assert (first.suffix, asked) == (".png", ["https://x/a/y.png?size=3"])


def test_path_map_words():
    assert parse_path_map(["/a=/b", "/c==d"]) == [("/a", "/b"), ("/c", "=d")]
    for word in ("/a", "=/b"):
        with pytest.raises(ValueError, match="must be OLD=NEW"):
            parse_path_map([word])
