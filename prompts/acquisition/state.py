"""What is known of a source here: where it lies, what was accepted, what was verified."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from idbench.prompts.acquisition.catalogue import SourceInfo, source_info, terms_text
from idbench.prompts.files import write_whole
from idbench.prompts.strict import ManifestError, Record, parse_json

FORMAT = "idbench.source/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """Terms that somebody accepted: for one revision, with the hash of the text they were shown."""

    terms: str
    revision: str
    date: str  # ISO 8601, UTC
    text_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceState:
    """The content of `state.json` of a source.

    `root` is the folder with the files: relative to the folder of the source, or absolute where the
    user's own copy stays where it is.
    """

    revision: str
    root: str | None = None
    verified: str | None = None  # the last summary of a verification
    files: int = 0
    accepted: tuple[Acceptance, ...] = ()


def source_folder(source: str, data_root: Path) -> Path:
    """Where everything about a source is kept."""
    return data_root / "sources" / source


def read_state(source: str, data_root: Path) -> SourceState:
    """The state of a source; an empty one where nothing was done yet.

    Raises:
        ManifestError: If `state.json` is damaged.
    """
    path = source_folder(source, data_root) / "state.json"
    if not path.is_file():
        return SourceState(revision=source_info(source).revision)
    record = Record(parse_json(path.read_bytes(), str(path)), str(path))
    if record.take("format") != FORMAT:
        raise ManifestError(f"{path}, key 'format': expected {FORMAT}")
    state = SourceState(
        revision=record.text("revision"),
        root=record.optional_text("root"),
        verified=record.optional_text("verified"),
        files=record.whole("files", 0),
        accepted=tuple(_acceptance(entry) for entry in record.records("accepted")),
    )
    record.done()
    return state


def _acceptance(record: Record) -> Acceptance:
    acceptance = Acceptance(
        terms=record.text("terms"),
        revision=record.text("revision"),
        date=record.text("date"),
        text_sha256=record.text("text_sha256"),
    )
    record.done()
    return acceptance


def write_state(source: str, data_root: Path, state: SourceState) -> None:
    """Replaces `state.json` of a source."""
    document: dict[str, object] = {
        "format": FORMAT,
        "revision": state.revision,
        "files": state.files,
        "accepted": [
            {
                "terms": entry.terms,
                "revision": entry.revision,
                "date": entry.date,
                "text_sha256": entry.text_sha256,
            }
            for entry in state.accepted
        ],
    }
    for key in ("root", "verified"):
        if getattr(state, key) is not None:
            document[key] = getattr(state, key)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    write_whole(source_folder(source, data_root) / "state.json", [text.encode()])


class TermsError(PermissionError):
    """Terms that nobody accepted yet; the message shows them and how to accept them."""


def require_terms(info: SourceInfo, data_root: Path, *, accept: set[str], date: str) -> None:
    """Records terms that are in `accept`; passes where they were accepted for this revision before.

    Raises:
        TermsError: If they were not, with their text and the flag.
    """
    if not info.terms:
        return
    state = read_state(info.name, data_root)
    text = terms_text(info.terms)
    digest = hashlib.sha256(text.encode()).hexdigest()
    wanted = (info.terms, info.revision, digest)
    if any((a.terms, a.revision, a.text_sha256) == wanted for a in state.accepted):
        return
    if info.terms not in accept:
        raise TermsError(
            f"{info.name} has terms that you have to accept first:\n\n{text}\n"
            f"accept them with: --accept {info.terms} (or IDBENCH_ACCEPT={info.terms})"
        )
    acceptance = Acceptance(terms=info.terms, revision=info.revision, date=date, text_sha256=digest)
    write_state(info.name, data_root, replace(state, accepted=(*state.accepted, acceptance)))


def state_root(source: str, data_root: Path) -> Path | None:
    """The folder with the files of a source, or None where it is not here."""
    state = read_state(source, data_root)
    if state.root is None:
        return None
    path = source_folder(source, data_root) / state.root
    return path if path.is_dir() else None


def remove(source: str, data_root: Path) -> int:
    """Deletes what was fetched or copied of a source; a user's linked copy is left alone.

    The record of accepted terms stays. Returns the number of files that were deleted.
    """
    folder = source_folder(source, data_root)
    if not folder.is_dir():
        return 0
    state = read_state(source, data_root)
    deleted = sum(1 for path in folder.rglob("*") if path.is_file() and path.name != "state.json")
    for entry in folder.iterdir():
        if entry.name != "state.json":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    if (folder / "state.json").is_file():
        write_state(source, data_root, replace(state, root=None, verified=None, files=0))
    return deleted
