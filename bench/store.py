"""A run on disk: `run.json` says what it is, `run.sqlite` what came of it, `images/` holds pixels.

The process that drives a run is its only writer; it holds `run.lock` while it writes. Readers
(tables, fronts, reports) need no lock.
"""

import dataclasses
import fcntl
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from idbench.canonical import canonical_json, fingerprint
from idbench.files import StorageError, write_whole
from idbench.records import SCHEMA_VERSION, SCORE_FRAME, Column, Sample, Score, SetScore
from idbench.redaction import redacted

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
  case_id TEXT NOT NULL, sample INTEGER NOT NULL, seed INTEGER NOT NULL, status TEXT NOT NULL,
  path TEXT, sha256 TEXT, width INTEGER, height INTEGER, seconds REAL, reason TEXT, detail TEXT,
  identity TEXT NOT NULL, multiplicity INTEGER NOT NULL, tags TEXT NOT NULL, notes TEXT,
  PRIMARY KEY (case_id, sample)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS columns (
  name TEXT NOT NULL, fingerprint TEXT NOT NULL, info TEXT NOT NULL,
  PRIMARY KEY (name, fingerprint)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores (
  case_id TEXT NOT NULL, sample INTEGER NOT NULL, name TEXT NOT NULL, fingerprint TEXT NOT NULL,
  value REAL, reason TEXT, detail TEXT,
  PRIMARY KEY (name, fingerprint, case_id, sample)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS set_scores (
  name TEXT NOT NULL, fingerprint TEXT NOT NULL, info TEXT NOT NULL, value REAL,
  inputs TEXT NOT NULL, n INTEGER NOT NULL, total INTEGER NOT NULL, samples INTEGER NOT NULL,
  reasons TEXT NOT NULL,
  PRIMARY KEY (name, fingerprint)) WITHOUT ROWID;
"""

SHARDS = "shards"  # the folder of a workspace in which the shards of a run are made
WALK_PAGE = 1000  # rows held at a time
SAMPLE_FIELDS = tuple(field.name for field in dataclasses.fields(Sample))

_SMALLEST_DATABASE = 512  # bytes; the smallest page of SQLite
_MOVE_AWAY = "move {} away and run the same command again"

# A sample with its identity, multiplicity and tags.
Planned = tuple[Sample, str, int, Mapping[str, Sequence[str]]]


class RunError(ValueError):
    """A run directory that cannot be used: absent, of another schema, damaged or in use."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunIdentity:
    """What a run is. Two runs of equal `key` are the same run and share a directory.

    `method` and `suite` are JSON objects (name, arguments and fingerprint; name, version and
    sha256); `seed_policy` is "hashed" or "fixed:<base>"; `size` is (width, height) or None for the
    method's own; `environment` is recorded but is not part of the key.
    """

    label: str
    method: dict[str, Any]
    suite: dict[str, Any]
    seed_policy: str
    size: tuple[int, int] | None
    environment: dict[str, Any]

    def __post_init__(self) -> None:
        """Takes out what must not be recorded, and refuses a suite's name that is a path."""
        for name in ("label", "method", "suite"):
            object.__setattr__(self, name, redacted(getattr(self, name)))
        suite = str(self.suite.get("name", ""))
        if Path(suite).name != suite or suite in ("", "..") or "\\" in suite:
            raise RunError(f"{suite!r} is no name of a suite: it must be one name, not a path")

    @property
    def key(self) -> str:
        """Fingerprint of everything that can move a pixel."""
        return fingerprint(
            {
                "method": self.method["fingerprint"],
                "suite": self.suite["sha256"],
                "seed_policy": self.seed_policy,
                "size": self.size,
            }
        )

    @property
    def folder(self) -> str:
        """Name of the run directory: the method's name made path-safe, and the key."""
        return f"{folder_stem(self.method['name'])}-{self.key[:8]}"


def folder_stem(method: str) -> str:
    """The path-safe form of a method's name that run directories begin with."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in method)
    return safe.strip(".-")[:60] or "method"


class RunStore:
    """Reads and writes one run directory; a context manager that closes the database."""

    def __init__(
        self, directory: Path, identity: RunIdentity, database: sqlite3.Connection
    ) -> None:
        """Use `create` or `open`."""
        self.directory = directory
        self.identity = identity
        self._database = database

    @classmethod
    def create(cls, workspace: Path, identity: RunIdentity) -> Self:
        """Opens the run of this identity under `workspace`, making it if there is none.

        Raises:
            StorageError: If the folder cannot be written.
            RunError: If something else lies there.
        """
        directory = workspace / identity.suite["name"] / identity.folder
        if not (directory / "run.json").exists():
            document = {"format": f"idbench.run/{SCHEMA_VERSION}", "key": identity.key}
            document |= dataclasses.asdict(identity)
            text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
            write_whole(directory / "run.json", (text + "\n").encode())
        store = cls.open(directory)
        if store.identity.key != identity.key:
            raise RunError(f"{directory} holds run {store.identity.key}, not {identity.key}")
        return store

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens a run directory.

        Raises:
            RunError: If `directory` is not one, or one of another schema version.
        """
        path = directory / "run.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            found = document.pop("format")
            document.pop("key")
            size = document.pop("size")
            identity = RunIdentity(size=tuple(size) if size else None, **document)
        except FileNotFoundError:
            raise RunError(f"{directory} is not a run: it has no run.json") from None
        except (
            json.JSONDecodeError,
            UnicodeDecodeError,
            AttributeError,
            KeyError,
            TypeError,
        ) as error:
            raise RunError(f"{path} is damaged: {error}; {_MOVE_AWAY.format(directory)}") from error
        if found != f"idbench.run/{SCHEMA_VERSION}":
            raise RunError(
                f"{path} has format {found!r}, this version reads idbench.run/{SCHEMA_VERSION}"
            )
        return cls(directory, identity, _connect(directory / "run.sqlite"))

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the database."""
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Makes this process the only writer of the run for the length of a `with` block.

        Raises:
            RunError: If another process is writing it.
        """
        try:
            descriptor = os.open(self.directory / "run.lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise StorageError(f"cannot write {self.directory}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(
                    f"{self.directory} is being written by another process; wait for it or stop it"
                ) from None
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database:
                yield self._database
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"cannot write {self.directory / 'run.sqlite'}: {error}; what was recorded is "
                "kept, run the same command again when the disk can be written"
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _read(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            path = self.directory / "run.sqlite"
            raise StorageError(
                f"cannot read {path}: {error}; run the same command again"
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.DatabaseError) -> RunError:
        path = self.directory / "run.sqlite"
        return RunError(f"{path} is damaged ({error}); {_MOVE_AWAY.format(self.directory)}")

    def plan(self, rows: Iterable[Planned]) -> None:
        """Adds planned samples with identity, multiplicity and tags; known ones stay."""
        with self._transaction() as database:
            database.executemany(
                "INSERT OR IGNORE INTO samples (case_id, sample, seed, status, identity, "
                "multiplicity, tags) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (s.case_id, s.sample, s.seed, s.status, identity, copies, canonical_json(tags))
                    for s, identity, copies, tags in rows
                ),
            )

    def planned(self) -> list[Planned]:
        """All samples as they were planned, with what became of them, by case id and sample."""
        rows = self._read(
            f"SELECT {', '.join(SAMPLE_FIELDS)}, identity, multiplicity, tags FROM samples "
            "ORDER BY case_id, sample"
        )
        return [
            (
                _sample(fields),
                identity,
                multiplicity,
                json.loads(tags),
            )
            for *fields, identity, multiplicity, tags in rows
        ]

    def samples(self, status: str | None = None) -> list[Sample]:
        """All samples, or those of one status, in order of case id and sample."""
        where, values = ("WHERE status = ?", (status,)) if status else ("", ())
        rows = self._read(
            f"SELECT {', '.join(SAMPLE_FIELDS)} FROM samples {where} ORDER BY case_id, sample",
            values,
        )
        return [_sample(row) for row in rows]

    def walk(self, statuses: Sequence[str]) -> Iterator[Sample]:
        """Samples of some statuses in order of case id and sample, in constant memory.

        The run may be written meanwhile.
        """
        query = (
            f"SELECT {', '.join(SAMPLE_FIELDS)} FROM samples WHERE (case_id, sample) > (?, ?) "
            f"AND status IN ({', '.join('?' * len(statuses))}) ORDER BY case_id, sample LIMIT ?"
        )
        place: tuple[str, int] = ("", -1)
        while True:
            rows = self._read(query, (*place, *statuses, WALK_PAGE))
            for row in rows:
                yield _sample(row)
            if len(rows) < WALK_PAGE:
                return
            place = rows[-1][0], rows[-1][1]

    def has_image(self, case_id: str, sample: int) -> bool:
        """Whether a sample is made and its image is in the folder."""
        row = self._database.execute(
            "SELECT path FROM samples WHERE case_id = ? AND sample = ? AND status = 'ok'",
            (case_id, sample),
        ).fetchone()
        return row is not None and (self.directory / str(row[0])).is_file()

    def counts(self) -> Counter[str]:
        """How many samples have each status."""
        rows = self._read("SELECT status, COUNT(*) FROM samples GROUP BY status")
        return Counter(dict(rows))

    def failures(self) -> Counter[tuple[str, str]]:
        """How many samples have no image for each reason and detail."""
        rows = self._read(
            "SELECT COALESCE(reason, 'error'), COALESCE(detail, ''), COUNT(*) FROM samples "
            "WHERE status = 'failed' GROUP BY 1, 2"
        )
        return Counter({(reason, detail): count for reason, detail, count in rows})

    def record(self, samples: Iterable[Sample]) -> None:
        """Writes what became of samples, in one transaction.

        The scores of a sample whose image changes are removed with it.
        """
        with self._transaction() as database:
            for s in samples:
                database.execute(
                    "DELETE FROM scores WHERE case_id = ? AND sample = ? AND EXISTS (SELECT 1 FROM "
                    "samples s WHERE s.case_id = scores.case_id AND s.sample = scores.sample "
                    "AND s.sha256 IS NOT ?)",
                    (s.case_id, s.sample, s.sha256),
                )
                database.execute(
                    "UPDATE samples SET status = :status, path = :path, sha256 = :sha256, "
                    "width = :width, height = :height, seconds = :seconds, reason = :reason, "
                    "detail = :detail, notes = :notes "
                    "WHERE case_id = :case_id AND sample = :sample",
                    dataclasses.asdict(s),
                )

    def add_columns(self, columns: Iterable[Column]) -> None:
        """Declares what columns of scores mean."""
        with self._transaction() as database:
            database.executemany(
                "INSERT OR IGNORE INTO columns (name, fingerprint, info) VALUES (?, ?, ?)",
                ((c.name, c.fingerprint, _info(c)) for c in columns),
            )

    def columns(self) -> list[Column]:
        """The columns that have scores, by name and fingerprint."""
        rows = self._read("SELECT info FROM columns ORDER BY name, fingerprint")
        return [_column(json.loads(info)) for (info,) in rows]

    def scored(
        self, name: str, column_fingerprint: str, *, retry: Sequence[str] = ()
    ) -> set[tuple[str, int]]:
        """The samples with a score or a reason in a column, less those with a reason to retry."""
        rows = self._read(
            "SELECT case_id, sample, reason FROM scores WHERE name = ? AND fingerprint = ?",
            (name, column_fingerprint),
        )
        return {(case_id, sample) for case_id, sample, reason in rows if reason not in retry}

    def add_scores(self, scores: Iterable[Score]) -> None:
        """Writes scores in one transaction; a second write of the same score replaces it."""
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO scores "
                "(case_id, sample, name, fingerprint, value, reason, detail) "
                "VALUES (:case_id, :sample, :column, :fingerprint, :value, :reason, :detail)",
                (dataclasses.asdict(s) for s in scores),
            )

    def scores(self) -> list[Score]:
        """All scores and reasons."""
        rows = self._read(
            "SELECT case_id, sample, name, fingerprint, value, reason, detail FROM scores "
            "ORDER BY name, fingerprint, case_id, sample"
        )
        return [
            Score(
                case_id=case_id,
                sample=sample,
                column=name,
                fingerprint=column_fingerprint,
                value=value,
                reason=reason,
                detail=detail,
            )
            for case_id, sample, name, column_fingerprint, value, reason, detail in rows
        ]

    def doubted(self) -> set[tuple[str, int]]:
        """The samples for which scoring could not read an image, or found another one."""
        rows = self._read(
            "SELECT DISTINCT case_id, sample FROM scores "
            "WHERE reason IN ('changed_image', 'unreadable_image')"
        )
        return {(case_id, sample) for case_id, sample in rows}

    def set_inputs(self, name: str, column_fingerprint: str) -> str | None:
        """Fingerprint of the images that the stored value of a set column was computed from."""
        rows = self._read(
            "SELECT inputs FROM set_scores WHERE name = ? AND fingerprint = ?",
            (name, column_fingerprint),
        )
        return str(rows[0][0]) if rows else None

    def add_set_scores(self, scores: Iterable[SetScore]) -> None:
        """Writes values of whole sets, in one transaction; a later one replaces an earlier one."""
        with self._transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO set_scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        s.column.name,
                        s.column.fingerprint,
                        _info(s.column),
                        s.value,
                        s.inputs,
                        s.n,
                        s.total,
                        s.samples,
                        canonical_json(s.reasons),
                    )
                    for s in scores
                ),
            )

    def set_scores(self) -> list[SetScore]:
        """The values of whole sets, by name and fingerprint."""
        rows = self._read(
            "SELECT info, value, inputs, n, total, samples, reasons FROM set_scores "
            "ORDER BY name, fingerprint"
        )
        return [
            SetScore(
                column=_column(json.loads(info)),
                value=value,
                inputs=inputs,
                n=n,
                total=total,
                samples=samples,
                reasons=json.loads(reasons),
            )
            for info, value, inputs, n, total, samples, reasons in rows
        ]

    def score_frame(self) -> "pd.DataFrame":
        """Planned samples x columns, in order of column, case id and sample.

        The columns of the frame are those of `records.SCORE_FRAME` that differ within a run, and
        `tags`. A sample that was not scored yet has the reason "not_scored".
        """
        import numpy as np
        import pandas as pd

        # What does not differ between columns is read once: a run may have a million scores.
        samples = self._read(
            "SELECT case_id, sample, identity, multiplicity, tags FROM samples "
            "ORDER BY case_id, sample"
        )
        facts = pd.DataFrame(
            samples, columns=["case_id", "sample", "identity", "multiplicity", "tags"]
        ).astype({**{key: SCORE_FRAME[key] for key in ("case_id", "identity")}, "tags": "str"})
        columns = self._read("SELECT name, fingerprint FROM columns ORDER BY name, fingerprint")
        parts = []
        for name, column_fingerprint in columns:
            scores = self._read(
                """
                SELECT r.value,
                  CASE WHEN r.value IS NOT NULL THEN ''
                    WHEN r.reason IS NULL THEN 'not_scored' ELSE r.reason END
                FROM samples s LEFT JOIN scores r
                  ON r.name = ? AND r.fingerprint = ?
                  AND r.case_id = s.case_id AND r.sample = s.sample
                ORDER BY s.case_id, s.sample
                """,
                (name, column_fingerprint),
            )
            values, reasons = zip(*scores, strict=True) if scores else ((), ())
            parts.append(
                facts.assign(
                    column=name,
                    fingerprint=column_fingerprint,
                    value=np.array(values, dtype=np.float64),  # None becomes NaN
                    reason=pd.Series(reasons, dtype="str", index=facts.index),
                )
            )
        if not parts:
            return facts.assign(column="", fingerprint="", value=0.0, reason="").iloc[:0]
        return pd.concat(parts, ignore_index=True)


def _sample(fields: Sequence[Any]) -> Sample:
    """A row of `samples`, whose path must be one of the run: the file may come from others."""
    sample = Sample(**dict(zip(SAMPLE_FIELDS, fields, strict=True)))
    if sample.path is not None:
        parts = sample.path.split("/")
        if len(parts) < 2 or parts[0] != "images" or {"", ".", ".."} & set(parts):
            raise RunError(
                f"sample {sample.sample} of case {sample.case_id!r} has the path {sample.path!r}, "
                "which is not in the images of its run; do not use this run"
            )
    return sample


def _connect(path: Path) -> sqlite3.Connection:
    size = path.stat().st_size if path.exists() else 0
    if size < _SMALLEST_DATABASE and (path.parent / "images").is_dir():
        # SQLite would take it for a new database, and the run would begin anew without a word.
        raise RunError(
            f"{path} is damaged: it is empty and there are images; {_MOVE_AWAY.format(path.parent)}"
        )
    try:
        # A thread may write while another reads; SQLite itself takes care that they take turns.
        database = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
        database.executescript(SCHEMA)
        _add_notes(database)
        missing = _missing_bytes(database, path)
    except sqlite3.DatabaseError as error:
        if path.exists() and not os.access(path.parent, os.W_OK):
            return sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
        if isinstance(error, sqlite3.OperationalError):
            raise StorageError(f"cannot open {path}: {error}") from error
        raise RunError(f"{path} is damaged ({error}); {_MOVE_AWAY.format(path.parent)}") from error
    if missing > 0:
        database.close()
        raise RunError(
            f"{path} is damaged: its last {missing} bytes are gone; "
            + _MOVE_AWAY.format(path.parent)
        )
    return database


def _missing_bytes(database: sqlite3.Connection, path: Path) -> int:
    """How much shorter than it says a database is; SQLite reads the rest of its last page as 0."""
    database.execute("BEGIN")  # while this is open nobody writes the file
    ((pages,),) = database.execute("PRAGMA page_count").fetchall()
    ((page_size,),) = database.execute("PRAGMA page_size").fetchall()
    size = path.stat().st_size
    database.rollback()
    return int(pages) * int(page_size) - size


def _add_notes(database: sqlite3.Connection) -> None:
    """Brings a database from before there were notes up to date."""
    known = {name for _, name, *_ in database.execute("PRAGMA table_info(samples)")}
    if "notes" not in known:
        database.execute("ALTER TABLE samples ADD COLUMN notes TEXT")


def _info(column: Column) -> str:
    # JSON has no infinity: open bounds are stored as text.
    entry = dataclasses.asdict(column)
    return canonical_json(entry | {"low": str(column.low), "high": str(column.high)})


def _column(info: dict[str, Any]) -> Column:
    return Column(**info | {"low": float(info["low"]), "high": float(info["high"])})


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The run directories at or under `paths`, sorted; those of shards only where named.

    Raises:
        RunError: If one of `paths` holds none.
    """
    found: set[Path] = set()
    for path in paths:
        here = {
            document.parent
            for document in path.rglob("run.json")
            if SHARDS not in document.relative_to(path).parts
        }
        if not here:
            raise RunError(f"{path} is not a run and holds none; a run has a run.json")
        found |= here
    return sorted(found)


def load_frame(paths: Iterable[Path]) -> "tuple[pd.DataFrame, list[Column]]":
    """The scores of runs as one frame (`records.SCORE_FRAME`, plus `tags`), and their columns.

    Raises:
        RunError: If one of `paths` holds no run, or two of the runs are the same.
    """
    import pandas as pd

    columns: dict[tuple[str, str], Column] = {}
    frames = []
    seen: dict[tuple[str, str], Path] = {}
    for directory in find_runs(paths):
        with RunStore.open(directory) as store:
            # The folder's name holds the key: equal names are the same run, made twice.
            name = (store.identity.suite["name"], directory.name)
            if name in seen:
                raise RunError(f"{seen[name]} and {directory} are the same run; name one of them")
            seen[name] = directory
            columns |= {(c.name, c.fingerprint): c for c in store.columns()}
            frame = store.score_frame()
            frame.insert(0, "label", store.identity.label)
            frame.insert(1, "run", directory.name)
            frame.insert(2, "method", store.identity.method["name"])
            frame.insert(3, "suite", store.identity.suite["name"])
            frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    frame = frame.astype({**SCORE_FRAME, "tags": "str"})
    return frame, [columns[key] for key in sorted(columns)]
