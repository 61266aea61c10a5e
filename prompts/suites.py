"""Frozen suites: a header (`suite.yaml`) and its cases (`cases.jsonl`), read strictly."""

import hashlib
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, overload

import yaml

from idbench.prompts.cases import Case, Kind, identify
from idbench.prompts.manifest import KINDS, case_from_line
from idbench.prompts.registry import SUITES
from idbench.prompts.strict import ManifestError, Record, shown
from idbench.prompts.suite_info import SuiteInfo

FORMAT = "idbench.suite/1"
WITHOUT_ID = ("per_case", "shared", "none")
_SUITE_NAME = re.compile(r"[a-z0-9][a-z0-9+_.-]{0,99}")
_SEED_POLICY = re.compile(r"hashed|fixed:[0-9]{1,9}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_HEADER_LIMIT = 1_000_000  # bytes; the largest real header has a few thousand


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteSource:
    """A data set that the references of a suite come from, and the state of it that was used."""

    name: str
    revision: str | None = None
    lock: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A named, versioned, immutable list of cases.

    `cases` is sorted by case id; a suite read from disk parses each case when it is asked for, so
    that its size in memory does not depend on the number of cases. `count` counts every case with
    its multiplicity, `distinct` once. `sha256` is that of `cases.jsonl` and identifies the suite.
    """

    name: str
    version: int
    kind: Kind
    cases: Sequence[Case]
    count: int
    distinct: int
    sha256: str
    samples_per_case: int = 1
    without_id: Literal["per_case", "shared", "none"] = "none"
    seed_policy: str = "hashed"
    sources: tuple[SuiteSource, ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    variants: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """Images of one arm with every case weighted: `count` x `samples_per_case`."""
        return self.count * self.samples_per_case

    def case(self, case_id: str) -> Case:
        """The case with this id.

        Raises:
            LookupError: If the suite has no such case.
        """
        if isinstance(self.cases, CaseFile):
            position = self.cases.position(case_id)
        else:
            position = bisect_left(self.cases, case_id, key=lambda case: case.case_id)
        if position < len(self.cases):
            found = self.cases[position]
            if found.case_id == case_id:
                return found
        raise LookupError(f"suite {self.name} has no case {case_id}")


class CaseFile(Sequence[Case]):
    """The cases of a `cases.jsonl` file, parsed when asked for; 16 bytes of memory per case."""

    def __init__(self, path: Path, offsets: "array[int]", ids: "array[int]") -> None:
        """Takes the byte offset of every line and the number of every case id."""
        self._path = path
        self._offsets = offsets
        self._ids = ids

    def __len__(self) -> int:
        """The number of cases, each counted once."""
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Case, ...]: ...
    def __getitem__(self, index: int | slice) -> Case | tuple[Case, ...]:
        """The case at a position in the order of ids; a slice yields a tuple."""
        if isinstance(index, slice):
            return tuple(self[entry] for entry in range(*index.indices(len(self))))
        position = range(len(self))[index]
        with self._path.open("rb") as stream:
            stream.seek(self._offsets[position])
            return case_from_line(stream.readline(), f"{self._path}, line {position + 1}")

    def __iter__(self) -> Iterator[Case]:
        """Every case, read in one pass over the file."""
        with self._path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield case_from_line(line, f"{self._path}, line {number}")

    def lines(self) -> Iterator[bytes]:
        """Every case as its line, as it stands in the file."""
        with self._path.open("rb") as stream:
            yield from stream

    def position(self, case_id: str) -> int:
        """Where `case_id` is, or would be."""
        try:
            return bisect_left(self._ids, int(case_id.removeprefix("c"), 16))
        except ValueError:
            return len(self)


def load_suite(name_or_path: str | Path, *, data_root: Path) -> Suite:
    """Reads a suite by name (bundled, or built under `data_root`) or from a folder or suite.yaml.

    Every line is checked: known keys, types, ids, order, count and sha256.

    Raises:
        LookupError: If the name is unknown; the message lists the known ones.
        FileNotFoundError: If the suite is known but not built yet, with the command that does it.
        ManifestError: If a file breaks the format.
    """
    if isinstance(name_or_path, str) and not re.search(r"[/\\]|\.ya?ml$", name_or_path):
        return read_suite(suite_folder(name_or_path, data_root))
    path = Path(name_or_path)
    folder = path if path.is_dir() else path.parent
    header = folder / "suite.yaml" if path.is_dir() else path
    if not header.is_file():
        raise FileNotFoundError(f"no suite.yaml at {path}")
    return read_suite(folder, header=header)


def suite_folder(name: str, data_root: Path) -> Path:
    """The folder of a suite by name, with its `suite.yaml` there.

    Raises:
        LookupError: If the name is unknown.
        FileNotFoundError: If the suite is not built.
    """
    if not _SUITE_NAME.fullmatch(name):
        raise _unknown(name)
    bundled = Path(str(files("idbench.prompts"))) / name
    if (bundled / "suite.yaml").is_file():
        return bundled
    built = data_root / "suites" / name
    versions = [
        int(entry.name) for entry in built.glob("*") if entry.name.isdecimal() and entry.is_dir()
    ]
    for version in sorted(versions, reverse=True):
        if (built / str(version) / "suite.yaml").is_file():
            return built / str(version)
    if name not in SUITES:
        raise _unknown(name)
    raise FileNotFoundError(
        f"suite {name} is not built under {data_root}; {SUITES[name].how_to_get()}"
    )


def _unknown(name: str) -> LookupError:
    return LookupError(f"unknown suite {name!r}; known: {', '.join(SUITES)}")


def list_suites() -> list[SuiteInfo]:
    """Every suite of the registry, built or not, in the order of the table."""
    return list(SUITES.values())


def read_suite(folder: Path, *, header: Path | None = None) -> Suite:
    """Reads and checks `suite.yaml` and `cases.jsonl` of `folder`.

    Raises:
        ManifestError: If a file breaks the format, naming file, line and key.
        FileNotFoundError: If one of the two files is absent.
    """
    header = header or folder / "suite.yaml"
    record = Record(_read_yaml(header), str(header))
    if record.take("format") != FORMAT:
        raise ManifestError(f"{header}, key 'format': expected {FORMAT}")
    listed = record.record("cases")
    name = record.text("name", _SUITE_NAME)
    version = record.whole("version", 1)
    kind = record.choice("kind", KINDS)
    path = folder / listed.path("path")
    count, distinct = listed.whole("count", 0), listed.whole("distinct", 0)
    sha256 = listed.text("sha256", _HEX64)
    listed.done()
    suite = Suite(
        name=name,
        version=version,
        kind=kind,
        cases=_read_cases(
            path, suite=name, version=version, kind=kind, sha256=sha256, totals=(count, distinct)
        ),
        count=count,
        distinct=distinct,
        sha256=sha256,
        samples_per_case=record.whole("samples_per_case", 1),
        without_id=record.choice("without_id", WITHOUT_ID),
        seed_policy=record.text("seed_policy", _SEED_POLICY),
        sources=tuple(map(_source, record.records("sources"))),
        expected=_map(record, "expected", int),
        metrics=_texts(record, "metrics"),
        variants=_map(record, "variants", str),
        notes=_texts(record, "notes"),
    )
    record.done()
    return suite


def _source(record: Record) -> SuiteSource:
    source = SuiteSource(
        name=record.text("name"),
        revision=record.optional_text("revision"),
        lock=record.optional_text("lock"),
    )
    record.done()
    return source


def _map(record: Record, key: str, kind: type) -> dict[str, Any]:
    value = record.take(key)
    good = type(value) is dict and all(
        type(name) is str and type(entry) is kind for name, entry in value.items()
    )
    if not good:
        raise record.fail(key, f"a map of names to {kind.__name__}", value)
    return dict(value)


def _texts(record: Record, key: str) -> tuple[str, ...]:
    values = record.sequence(key)
    if not all(type(value) is str for value in values):
        raise record.fail(key, "a list of strings", values)
    return tuple(values)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML without keys that occur twice, of which YAML itself would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str):
                raise ManifestError(f"key {shown(key)} is not a string")
            if keys.count(key) > 1:
                raise ManifestError(f"key {key!r} occurs twice")
        return super().construct_mapping(node, deep=deep)


def _read_yaml(path: Path) -> object:
    if path.stat().st_size > _HEADER_LIMIT:
        raise ManifestError(f"{path}: larger than {_HEADER_LIMIT} bytes, so not a suite header")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: {error}") from None


def _read_cases(
    path: Path, *, suite: str, version: int, kind: str, sha256: str, totals: tuple[int, int]
) -> CaseFile:
    offsets, ids = array("Q"), array("Q")
    digest = hashlib.sha256()
    position, count, previous = 0, 0, ""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            where = f"{path}, line {number}"
            if not line.endswith(b"\n"):
                raise ManifestError(f"{where}: the file ends inside a line; it is truncated")
            case = case_from_line(line, where)
            if case.kind != kind:
                raise ManifestError(f"{where}, key 'kind': {case.kind} in a suite of {kind}")
            expected = identify(case, suite=suite, version=version)
            if case.case_id != expected:
                raise ManifestError(
                    f"{where}, key 'case_id': {case.case_id}, but the content has the id {expected}"
                )
            if case.case_id == previous:
                raise ManifestError(f"{where}, key 'case_id': {case.case_id} occurs twice")
            if case.case_id < previous:
                raise ManifestError(f"{where}, key 'case_id': not sorted")
            offsets.append(position)
            ids.append(int(case.case_id[1:], 16))
            digest.update(line)
            position += len(line)
            count += case.multiplicity
            previous = case.case_id
    if (count, len(ids)) != totals:
        raise ManifestError(
            f"{path}: {len(ids)} cases that count {count}, but the header states {totals[1]} that "
            f"count {totals[0]}"
        )
    if digest.hexdigest() != sha256:
        raise ManifestError(f"{path}: sha256 {digest.hexdigest()}, but the header states {sha256}")
    return CaseFile(path, offsets, ids)
