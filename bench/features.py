"""What networks found, kept by content: (sha256 of the input, fingerprint of the extractor).

The store lies in the workspace, not in a run: the references of a suite, and images that several
methods make alike, are read by each network once. It is a cache. Deleting it costs time only, and
several processes may write it: equal keys hold equal values.
"""

import io
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idbench.files import StorageError
from idbench.metrics.protocol import Features, Missing

SCHEMA = """
CREATE TABLE IF NOT EXISTS features (
  input TEXT NOT NULL, extractor TEXT NOT NULL, data BLOB, reason TEXT, detail TEXT,
  PRIMARY KEY (input, extractor)) WITHOUT ROWID;
"""


def pack(features: Features) -> bytes:
    """Arrays as the bytes of an uncompressed npz archive."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = dict(features)
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of `pack`; never unpickles."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


class FeatureStore:
    """Features by (input, extractor fingerprint) in one SQLite file."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file; one that SQLite cannot read is replaced, being only a cache."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = _open(path)
        except sqlite3.OperationalError as error:
            raise StorageError(f"cannot open {path}: {error}") from error
        except sqlite3.DatabaseError:
            path.replace(path.with_suffix(".damaged"))
            self._database = _open(path)
        except OSError as error:
            raise StorageError(f"cannot write {path.parent}: {error.strerror}") from error

    def get(self, inputs: Iterable[str], extractor: str) -> dict[str, Features | Missing]:
        """What is known of `inputs`; the others are left out."""
        found: dict[str, Features | Missing] = {}
        with self._named():
            for key in set(inputs):
                row = self._database.execute(
                    "SELECT data, reason, detail FROM features WHERE input = ? AND extractor = ?",
                    (key, extractor),
                ).fetchone()
                if row is not None:
                    data, reason, detail = row
                    found[key] = Missing(reason, detail) if data is None else unpack(data)
        return found

    def known(self, inputs: Iterable[str], extractor: str) -> set[str]:
        """Those of `inputs` that are in the store."""
        query = "SELECT 1 FROM features WHERE input = ? AND extractor = ?"
        with self._named():
            return {
                key
                for key in set(inputs)
                if self._database.execute(query, (key, extractor)).fetchone()
            }

    def put(self, found: Mapping[tuple[str, str], bytes | Missing]) -> None:
        """Adds packed features or reasons by (input, extractor), in one transaction."""
        rows = [
            (key, extractor, None, value.reason, value.detail)
            if isinstance(value, Missing)
            else (key, extractor, value, None, None)
            for (key, extractor), value in found.items()
        ]
        with self._named(), self._database:
            self._database.executemany(
                "INSERT OR IGNORE INTO features VALUES (?, ?, ?, ?, ?)", rows
            )

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Faults of the file as errors that name it."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StorageError(f"cannot write {self._path}: {error}") from error
        except (sqlite3.DatabaseError, zipfile.BadZipFile, ValueError, EOFError) as error:
            raise StorageError(
                f"{self._path} is damaged ({error}); delete it, it is only a cache, and run the "
                "same command again"
            ) from error

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=60.0)
    database.executescript(SCHEMA)
    return database
