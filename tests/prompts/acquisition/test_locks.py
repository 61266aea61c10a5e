"""Locks: what is missing, truncated or exchanged is named."""

import hashlib
import unicodedata

import pytest

from idbench.prompts.acquisition.locks import (
    EXIT_CODES,
    LockEntry,
    find_file,
    listing,
    read_lock,
    verify,
)


def _entry(path, content, *, sha=True):
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sha256 = hashlib.sha256(content).hexdigest() if sha else None
    return LockEntry(
        path=path, size=len(content) if sha else None, sha256=sha256, git_blob_sha1=blob
    )


@pytest.fixture
def copy(tmp_path):
    files = {"a/R (2).jpg": b"one", "a/多重.png": b"two", "b.txt": b"three"}
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path, [_entry(path, content, sha=path != "b.txt") for path, content in files.items()]


def test_a_complete_copy(copy):
    root, entries = copy
    for deep in (False, True):
        found = verify(root, entries, deep=deep)
        assert (found.state, found.present, found.expected) == ("complete", 3, 3)
        assert EXIT_CODES[found.state] == 0


def test_a_missing_file_is_partial(copy):
    root, entries = copy
    (root / "a/R (2).jpg").unlink()
    found = verify(root, entries, deep=False)
    assert (found.state, found.missing) == ("partial", ("a/R (2).jpg",))
    assert EXIT_CODES[found.state] == 3
    assert "1 missing (a/R (2).jpg)" in found.summary()


def test_a_truncated_file_is_corrupt_without_hashing(copy):
    root, entries = copy
    (root / "a/R (2).jpg").write_bytes(b"on")
    assert verify(root, entries, deep=False).corrupt == ("a/R (2).jpg",)


def test_an_exchanged_file_is_corrupt_when_hashed(copy):
    root, entries = copy
    (root / "a/多重.png").write_bytes(b"TWO")
    assert verify(root, entries, deep=False).state == "complete"
    found = verify(root, entries, deep=True)
    assert (found.state, found.corrupt) == ("corrupt", ("a/多重.png",))
    assert EXIT_CODES[found.state] == 4


def test_a_file_without_sha256_is_verified_by_its_blob_id(copy):
    root, entries = copy
    (root / "b.txt").write_bytes(b"THREE")
    assert verify(root, entries, deep=True).corrupt == ("b.txt",)


def test_nothing_there_is_absent(tmp_path):
    found = verify(tmp_path, [_entry("x", b"1")], deep=True)
    assert found.state == "absent"
    assert EXIT_CODES[found.state] == 5


def test_both_normal_forms_are_found(tmp_path):
    name = "José.jpg"
    for form in ("NFC", "NFD"):
        (tmp_path / form).mkdir()
        (tmp_path / form / unicodedata.normalize(form, name)).write_bytes(b"x")
        for asked in ("NFC", "NFD"):
            assert find_file(tmp_path / form, unicodedata.normalize(asked, name)) is not None
    assert find_file(tmp_path, "other") is None


def test_the_lock_of_ibench_is_facts_only():
    entries = read_lock("ibench.lock.csv")
    assert len(entries) == 303
    assert sum(entry.sha256 is not None for entry in entries) == 282
    assert all(entry.git_blob_sha1 for entry in entries)
    folders = [entry.path.split("/")[2] for entry in entries if entry.path.count("/") == 3]
    counts = {name: folders.count(name) for name in set(folders)}
    assert counts == {"chineseid": 100, "unsplash_50": 49, "generateid": 99, "mystyleid": 42}
    same = {e.git_blob_sha1 for e in entries if e.path.endswith(("/R11.jpg", "/R (2).jpg"))}
    assert len(same) == 1  # one picture under two names


def test_an_unknown_lock_is_a_lookup_error():
    with pytest.raises(LookupError, match="no lock file"):
        read_lock("celeba.lock.csv")


def test_a_listing_leaves_out_links_and_hidden_files(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "link").symlink_to("a")
    assert listing(tmp_path) == [LockEntry(path="a", size=2)]
