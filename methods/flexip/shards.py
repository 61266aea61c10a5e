"""Training sets as Parquet shards: written once, read in large pieces in any order.

`invariant-*.parquet` has images, `variant-*.parquet` videos and multi-view sets. A row is a
subject: its pictures, as the bytes of their files, and their captions.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from idbench.methods.common.files import write_with
from idbench.methods.flexip.manifest import Record

log = logging.getLogger(__name__)

POOLS = ("invariant", "variant")
SCHEMA = pa.schema(
    [
        ("subject_id", pa.string()),
        ("modality", pa.string()),
        ("pictures", pa.list_(pa.binary())),
        ("captions", pa.list_(pa.string())),
    ]
)
REJECTED = "rejected.jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """One subject as it is read back. `pictures` are files in memory, with `captions` of each."""

    subject_id: str
    modality: str
    pictures: tuple[bytes, ...]
    captions: tuple[str, ...]


@dataclass(slots=True)
class Packed:
    """What was written: rows by pool, and the subjects that were left out, with the reason."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(POOLS, 0))
    rejected: list[tuple[str, str]] = field(default_factory=list)


def write_shards(
    records: Iterable[Record],
    folder: Path,
    *,
    rows_per_shard: int = 4096,
    rows_per_group: int = 64,
    progress: Callable[[int], None] = lambda rows: None,
) -> Packed:
    """Packs records; the files of an earlier packing in this folder are replaced.

    A record with a picture that cannot be read is left out and listed in `rejected.jsonl`.

    Args:
        records: In the order in which they are to lie.
        folder: Of the shards.
        rows_per_shard: Rows of a file.
        rows_per_group: Rows that are read together.
        progress: Called with the number of records done.

    Raises:
        ValueError: If nothing is left to write.
    """
    packed = Packed()
    folder.mkdir(parents=True, exist_ok=True)
    for pool in POOLS:
        for old in shards_of(folder, pool):
            old.unlink()
    writers = {pool: _Writer(folder, pool, rows_per_shard, rows_per_group) for pool in POOLS}
    for number, record in enumerate(records, start=1):
        pool = "variant" if record.varied else "invariant"
        try:
            pictures = [_checked(path) for path in record.frames]
        except _UnreadableError as error:
            packed.rejected.append((record.subject_id, str(error)))
            log.warning("%s is left out: %s", record.subject_id, error)
        else:
            writers[pool].add(record, pictures)
            packed.rows[pool] += 1
        progress(number)
    for writer in writers.values():
        writer.flush()
    lines = [json.dumps({"subject_id": who, "reason": why}) for who, why in packed.rejected]
    text = "".join(f"{line}\n" for line in lines)
    write_with(folder / REJECTED, lambda file: file.write_text(text, encoding="utf-8"))
    if not any(packed.rows.values()):
        raise ValueError(
            f"no record could be packed, {len(packed.rejected)} were left out; see "
            f"{folder / REJECTED}"
        )
    return packed


class _UnreadableError(ValueError):
    """A picture that cannot be read."""


def _checked(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        with Image.open(BytesIO(content)) as image:
            image.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise _UnreadableError(f"{path}: {error}") from error
    return content


class _Writer:
    """Collects the rows of one pool and writes them a shard at a time."""

    def __init__(self, folder: Path, pool: str, rows_per_shard: int, rows_per_group: int) -> None:
        self.folder, self.pool = folder, pool
        self.rows_per_shard, self.rows_per_group = rows_per_shard, rows_per_group
        self.rows: list[dict[str, Any]] = []
        self.shards = 0

    def add(self, record: Record, pictures: list[bytes]) -> None:
        self.rows.append(
            {
                "subject_id": record.subject_id,
                "modality": record.modality,
                "pictures": pictures,
                "captions": list(record.captions),
            }
        )
        if len(self.rows) == self.rows_per_shard:
            self.flush()

    def flush(self) -> None:
        if not self.rows:
            return
        table = pa.Table.from_pylist(self.rows, schema=SCHEMA)
        # Pictures are compressed already.
        write_with(
            self.folder / f"{self.pool}-{self.shards:05d}.parquet",
            lambda file: pq.write_table(
                table, file, row_group_size=self.rows_per_group, compression="none"
            ),
        )
        self.rows, self.shards = [], self.shards + 1


def shards_of(folder: Path, pool: str) -> list[Path]:
    """The shards of a pool in a folder, by name."""
    return sorted(folder.glob(f"{pool}-*.parquet"))


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A piece of a shard that is read at once."""

    path: Path
    index: int
    rows: int

    def read(self) -> list[Row]:
        """Its rows."""
        with pq.ParquetFile(self.path) as file:
            table = file.read_row_group(self.index)
        return [
            Row(
                subject_id=row["subject_id"],
                modality=row["modality"],
                pictures=tuple(row["pictures"]),
                captions=tuple(row["captions"]),
            )
            for row in table.to_pylist()
        ]


def row_groups(paths: Sequence[Path]) -> list[RowGroup]:
    """The pieces of shards, without reading their rows.

    Raises:
        ValueError: If a file is no shard of a training set.
    """
    return list(_row_groups(paths))


def _row_groups(paths: Sequence[Path]) -> Iterator[RowGroup]:
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                schema, metadata = file.schema_arrow, file.metadata
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: no readable Parquet file ({error})") from error
        if schema.names != SCHEMA.names:
            raise ValueError(
                f"{path}: columns {', '.join(schema.names)}; a shard has "
                f"{', '.join(SCHEMA.names)} (idbench train flexip-shards writes them)"
            )
        for index in range(metadata.num_row_groups):
            yield RowGroup(path, index, metadata.row_group(index).num_rows)


def preview(folder: Path, pool: str, count: int) -> list[Row]:
    """The first rows of a pool, in the order they were packed."""
    rows = (row for group in row_groups(shards_of(folder, pool)) for row in group.read())
    return list(islice(rows, count))
