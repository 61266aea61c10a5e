"""The verbs of `idbench data` on one source: fetch it, register a copy of it, verify it."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from idbench.prompts.acquisition import network
from idbench.prompts.acquisition.catalogue import SourceInfo, source_info
from idbench.prompts.acquisition.hub_rows import celeba_rows, multiid_folders
from idbench.prompts.acquisition.layouts import check, locate
from idbench.prompts.acquisition.locks import Verification
from idbench.prompts.acquisition.state import (
    read_state,
    require_terms,
    source_folder,
    state_root,
    write_state,
)
from idbench.prompts.acquisition.unpack import unpack

DREAMBENCH_SHA256 = "fabdaac1cbff6826c226e874902193ac7965e29b6c1644e983551c980ec82a33"


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchOptions:
    """How to fetch. `mirror` replaces the address (git) or the endpoint (hub)."""

    environment: Mapping[str, str]
    accept: frozenset[str] = frozenset()
    revision: str | None = None
    mirror: str | None = None

    def accepted(self) -> set[str]:
        """Terms from the flag and from IDBENCH_ACCEPT."""
        listed = self.environment.get("IDBENCH_ACCEPT", "").split(",")
        return {*self.accept, *(name.strip() for name in listed if name.strip())}


def plan_fetch(source: str, data_root: Path, options: FetchOptions) -> str:
    """What `fetch` would do, in words; touches nothing.

    Raises:
        LookupError: If the source is unknown or cannot be fetched.
    """
    info = _fetchable(source)
    revision = options.revision or info.revision
    size = f", {info.size / 1e6:.0f} MB" if info.size else ""
    where = options.mirror or info.url
    target = source_folder(source, data_root) / _folder_name(revision)
    return f"{info.method}: {', '.join(info.paths)} of {where} at {revision}{size} -> {target}"


def fetch(source: str, data_root: Path, options: FetchOptions) -> Verification:
    """Fetches a source, verifies it and records where it is.

    Raises:
        LookupError: If the source is unknown or cannot be fetched, with the manual route.
        OfflineError: If the network is switched off.
        TermsError: If its terms were not accepted.
        FetchError: If the transfer fails.
        ArchiveError: If an archive is damaged or unsafe.
    """
    info = _fetchable(source)
    instead = f"go online and run: idbench data fetch {source}; or {info.manual}"
    network.require_online(options.environment, instead)
    require_terms(info, data_root, accept=options.accepted(), date=_now())
    revision = options.revision or info.revision
    if info.method == "hub":
        # What is fetched has to be known later, and a branch moves.
        revision = network.hub_commit(info.url, revision, endpoint=options.mirror)
    target = source_folder(source, data_root) / _folder_name(revision)
    with _staging(target) as staging:
        if info.method == "git":
            url = options.mirror or info.url
            network.sparse_checkout(url, revision, info.paths, staging / "files")
        else:
            _from_hub(info, revision, staging, options.mirror)
        _install(staging / "files", target)
    state = replace(read_state(source, data_root), revision=revision, root=target.name)
    write_state(source, data_root, state)
    return verify_source(source, data_root, deep=True)


def import_copy(
    source: str, path: Path, data_root: Path, *, copy: bool, accept: set[str]
) -> Verification:
    """Registers a user's own copy: a folder in a known layout, or the archive it came in.

    A folder stays where it is unless `copy`; an archive or a Parquet file is always unpacked.

    Raises:
        LookupError: If the source is unknown or is not one to import.
        FileNotFoundError: If `path` does not have the layout of the source.
        TermsError: If its terms were not accepted.
    """
    info = source_info(source)
    if info.method in ("package", "bundled"):
        raise LookupError(
            f"{source} comes with an installed package; {info.manual or 'nothing to do'}"
        )
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    require_terms(info, data_root, accept=accept, date=_now())
    target = source_folder(source, data_root) / _folder_name(info.revision)
    if path.is_file() or _parquet_files(path):
        with _staging(target) as staging:
            _unpack_user_file(info, path, staging / "files")
            _install(_located(info, staging / "files"), target)
        root = target.name
    else:
        found = _located(info, path.resolve())
        if copy:
            with _staging(target) as staging:
                shutil.copytree(found, staging / "files", ignore=shutil.ignore_patterns(".git"))
                _install(staging / "files", target)
            root = target.name
        else:
            root = str(found)
    state = replace(read_state(source, data_root), revision=info.revision, root=root)
    write_state(source, data_root, state)
    return verify_source(source, data_root, deep=True)


def verify_source(source: str, data_root: Path, *, deep: bool) -> Verification:
    """Checks a source against its lock or layout and writes the finding to its `state.json`.

    Raises:
        LookupError: If the source is unknown or has nothing to verify.
    """
    if source_info(source).method in ("package", "bundled"):
        raise LookupError(f"{source} comes with an installed package: there is nothing to verify")
    root = state_root(source, data_root)
    if root is None:
        return Verification(state="absent", expected=0, present=0, deep=deep)
    found = check(source, root, deep=deep)
    state = replace(read_state(source, data_root), verified=found.summary(), files=found.present)
    write_state(source, data_root, state)
    return found


def _fetchable(source: str) -> SourceInfo:
    info = source_info(source)
    if info.method not in ("git", "hub"):
        raise LookupError(f"{source} cannot be fetched; {info.manual or 'it is already here'}")
    return info


def _from_hub(info: SourceInfo, revision: str, staging: Path, endpoint: str | None) -> None:
    files = network.hub_files(info.url, revision, info.paths, staging / "hub", endpoint=endpoint)
    if info.name == "dreambench_plus":
        _require_dreambench(files[0])
        unpack(files[0], staging / "unpacked")
        _located(info, staging / "unpacked").rename(staging / "files")
    elif info.name == "multiid_bench":
        multiid_folders(files, staging / "files")
    else:
        celeba_rows(files, staging / "files")


def _require_dreambench(archive: Path) -> None:
    from idbench.prompts.files import sha256_of

    actual = sha256_of(archive)
    if actual != DREAMBENCH_SHA256:
        raise network.FetchError(
            f"data.zip has sha256 {actual}, expected {DREAMBENCH_SHA256}: the archive on the hub "
            "changed; use a copy of the known one: idbench data import dreambench_plus data.zip"
        )


def _unpack_user_file(info: SourceInfo, path: Path, target: Path) -> None:
    parquet = _parquet_files(path)
    if parquet and info.name == "multiid_bench":
        multiid_folders(parquet, target)
    elif parquet and info.name == "celeba":
        celeba_rows(parquet, target)
    else:
        unpack(path, target)


def _parquet_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sorted(path.rglob("*.parquet"))


def _located(info: SourceInfo, path: Path) -> Path:
    found = locate(info.name, path)
    if found is None:
        raise FileNotFoundError(f"{path} does not look like {info.name}; {info.manual}")
    return found


def _install(files: Path, target: Path) -> None:
    """Moves a complete staging folder to its place; an older copy goes only then."""
    if target.exists():
        shutil.rmtree(target)
    files.rename(target)


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder_name(revision: str) -> str:
    return revision.replace("/", "-") or "1"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
