"""Unpacking archives that others made: nothing outside the target, no links, no bombs."""

import lzma
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from idbench.prompts.strict import path_problem


class ArchiveError(ValueError):
    """An archive that is damaged or that nobody should unpack."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an archive may hold. `ratio` is unpacked to packed bytes, checked above `ratio_from`."""

    files: int = 300_000
    total: int = 64 << 30
    ratio: float = 100.0
    ratio_from: int = 16 << 20


# What zipfile, tarfile and the decompressors raise on damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # with NotImplementedError: a compression that zipfile does not know
    zlib.error,
    lzma.LZMAError,
    struct.error,
)


def unpack(archive: Path, target: Path, limits: Limits | None = None) -> int:
    """Unpacks a zip or tar archive into `target`, which must not exist; returns the file count.

    The files appear all at once: they are written to a folder beside `target`, which is renamed
    when the last one is whole.

    Raises:
        ArchiveError: For absolute names, `..`, backslashes, links, devices, encrypted members,
            names that occur twice, more files or bytes than `limits` allow, or damage.
        FileExistsError: If `target` exists.
    """
    limits = limits or Limits()
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        count = _unpack_into(archive, staging, limits)
        staging.chmod(0o755)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return count


def _unpack_into(archive: Path, folder: Path, limits: Limits) -> int:
    packed = archive.stat().st_size
    budget = limits.total
    if packed * limits.ratio < budget:
        budget = max(limits.ratio_from, int(packed * limits.ratio))
    seen: set[str] = set()
    try:
        with _members(archive) as members:
            for name, stream in _guarded(members, archive):
                _check_name(name, archive)
                if name.casefold() in seen:
                    raise ArchiveError(f"{archive}: {name!r} occurs twice")
                seen.add(name.casefold())
                if len(seen) > limits.files:
                    raise ArchiveError(f"{archive}: more than {limits.files} files")
                budget -= _write(stream, folder / name, budget, archive)
    except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise ArchiveError(f"{archive}: a name is both a file and a folder: {error}") from error
    return len(seen)


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """What fails while an archive is read is its own fault; writing is another matter."""
    try:
        yield
    except ArchiveError:
        raise
    except _DAMAGE as error:
        raise ArchiveError(f"{archive} is damaged: {error}") from error


def _guarded(
    members: Iterator[tuple[str, IO[bytes]]], archive: Path
) -> Iterator[tuple[str, IO[bytes]]]:
    while True:
        with _reading(archive):
            try:
                member = next(members)
            except StopIteration:
                return
        yield member


def _check_name(name: str, archive: Path) -> None:
    problem = path_problem(name)
    if problem or len(name.encode()) > 1000 or any(len(p.encode()) > 255 for p in name.split("/")):
        raise ArchiveError(f"{archive}: {problem or 'too long a path'}: {name[:200]!r}")


def _write(stream: IO[bytes], path: Path, budget: int, archive: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as output:
        while True:
            with _reading(archive):
                chunk = stream.read(1 << 20)
            if not chunk:
                break
            written += len(chunk)  # the size that the archive declares is not to be trusted
            if written > budget:
                raise ArchiveError(f"{archive}: unpacks to more than the limit; a bomb?")
            output.write(chunk)
    return written


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    if zipfile.is_zipfile(archive):
        with _reading(archive):
            opened = zipfile.ZipFile(archive)
        with opened:
            yield _zip_members(archive, opened)
    else:
        try:
            opened_tar = tarfile.open(archive)  # noqa: SIM115 - closed by the with below
        except _DAMAGE as error:
            raise ArchiveError(f"{archive} is neither a zip nor a tar archive: {error}") from error
        with opened_tar:
            yield _tar_members(archive, opened_tar)


def _zip_members(archive: Path, opened: zipfile.ZipFile) -> Iterator[tuple[str, IO[bytes]]]:
    for member in opened.infolist():
        mode = member.external_attr >> 16
        if member.flag_bits & 1:
            raise ArchiveError(f"{archive}: {member.filename!r} is encrypted")
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and stat.S_IFMT(mode):
            raise ArchiveError(f"{archive}: {member.filename!r} is a link or a device")
        # ZipInfo turns backslashes into slashes on Windows only; orig_filename keeps them
        if "\\" in member.orig_filename:
            raise ArchiveError(f"{archive}: a name with a backslash: {member.orig_filename!r}")
        if member.is_dir():
            _check_name(member.filename.rstrip("/") or "/", archive)
            continue
        with opened.open(member) as stream:
            yield member.filename, stream


def _tar_members(archive: Path, opened: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    for member in opened:
        if member.isdir():
            if member.name not in (".", "./"):
                _check_name(member.name.removeprefix("./").rstrip("/") or "/", archive)
            continue
        if not member.isreg():
            raise ArchiveError(f"{archive}: {member.name!r} is a link or a device")
        stream = opened.extractfile(member)
        if stream is None:
            raise ArchiveError(f"{archive}: {member.name!r} has no content")
        with stream:
            yield member.name.removeprefix("./"), stream
