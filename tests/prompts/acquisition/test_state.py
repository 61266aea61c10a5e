"""What is remembered of a source: terms, place, verification."""

import json

import pytest

from idbench.prompts.acquisition.catalogue import SOURCES, source_info, terms_text
from idbench.prompts.acquisition.state import (
    SourceState,
    TermsError,
    read_state,
    remove,
    require_terms,
    state_root,
    write_state,
)
from idbench.prompts.strict import ManifestError

DATE = "2026-01-02T03:04:05+00:00"


def test_every_source_with_terms_has_their_text():
    for info in SOURCES.values():
        assert not info.terms or len(terms_text(info.terms)) > 100


def test_an_unknown_source_lists_the_known_ones():
    with pytest.raises(LookupError, match="unknown source 'ibenhc'; known: ibench"):
        source_info("ibenhc")


def test_state_round_trips(tmp_path):
    info = SOURCES["celeba"]
    require_terms(info, tmp_path, accept={"celeba"}, date=DATE)
    state = read_state("celeba", tmp_path)
    assert [(a.terms, a.revision, a.date) for a in state.accepted] == [("celeba", "main", DATE)]
    changed = SourceState(
        revision="r", root="名 (1)", verified="complete", files=3, accepted=state.accepted
    )
    write_state("celeba", tmp_path, changed)
    assert read_state("celeba", tmp_path) == changed


def test_terms_are_shown_and_have_to_be_accepted(tmp_path):
    info = SOURCES["ibench"]
    with pytest.raises(TermsError, match=r"(?s)states no licence.*--accept ibench-unlicensed"):
        require_terms(info, tmp_path, accept={"celeba"}, date=DATE)
    assert read_state("ibench", tmp_path).accepted == ()
    require_terms(info, tmp_path, accept={"ibench-unlicensed"}, date=DATE)
    require_terms(info, tmp_path, accept=set(), date=DATE)
    assert len(read_state("ibench", tmp_path).accepted) == 1


def test_acceptance_is_per_revision(tmp_path):
    from dataclasses import replace

    info = SOURCES["ibench"]
    require_terms(info, tmp_path, accept={"ibench-unlicensed"}, date=DATE)
    with pytest.raises(TermsError):
        require_terms(replace(info, revision="other"), tmp_path, accept=set(), date=DATE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "expected an object"),
        ('{"format": "x"}', "key 'format'"),
        ('{"format": "idbench.source/1", "revision": "r", "files": 0}', "key 'accepted': missing"),
        (
            '{"format": "idbench.source/1", "revision": "r", "files": -1, "accepted": []}',
            "key 'files'",
        ),
    ],
)
def test_a_damaged_state_names_file_and_key(tmp_path, text, message):
    folder = tmp_path / "sources" / "ibench"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(text)
    with pytest.raises(ManifestError, match=message) as caught:
        read_state("ibench", tmp_path)
    assert "state.json" in str(caught.value)


def test_removing_keeps_the_users_copy_and_the_terms(tmp_path):
    own = tmp_path / "my celeba"
    own.mkdir()
    (own / "x.jpg").write_bytes(b"1")
    root = tmp_path / "data"
    require_terms(SOURCES["celeba"], root, accept={"celeba"}, date=DATE)
    accepted = read_state("celeba", root).accepted
    write_state("celeba", root, SourceState(revision="main", root=str(own), accepted=accepted))
    assert remove("celeba", root) == 0
    assert (own / "x.jpg").is_file()
    assert state_root("celeba", root) is None
    assert read_state("celeba", root).accepted == accepted


def test_removing_deletes_what_was_fetched(tmp_path):
    folder = tmp_path / "sources" / "msbench" / "abc"
    folder.mkdir(parents=True)
    (folder / "x.jpg").write_bytes(b"1")
    write_state("msbench", tmp_path, SourceState(revision="abc", root="abc"))
    assert remove("msbench", tmp_path) == 1
    assert [path.name for path in folder.parent.iterdir()] == ["state.json"]
    assert json.loads((folder.parent / "state.json").read_text())["files"] == 0
    assert remove("never-seen", tmp_path) == 0
