"""Downloads weights: the only code of the metrics that uses the network."""

import hashlib
import shutil
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from idbench.metrics.weights import (
    WeightsEntry,
    WeightsFile,
    WeightStore,
    WrongWeightsError,
    temporary_beside,
)

Report = Callable[[str, int, int | None], None]  # file, bytes so far, bytes in all if known

_CHUNK = 1 << 20
# No published network file comes near this; a member that claims more is a decompression bomb.
_MAX_MEMBER_BYTES = 8 << 30


class OfflineError(ConnectionError):
    """A download was asked for while offline mode is on."""


class TermsError(PermissionError):
    """The weights have terms of use that were not accepted."""


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether $IDBENCH_OFFLINE or $HF_HUB_OFFLINE forbids the network."""
    names = ("IDBENCH_OFFLINE", "HF_HUB_OFFLINE")
    return any(environ.get(name, "").lower() in {"1", "true", "yes", "on"} for name in names)


def fetch(
    store: WeightStore,
    key: str,
    *,
    accept_terms: bool = False,
    offline: bool = False,
    report: Report | None = None,
    timeout: float = 60.0,
) -> list[Path]:
    """Downloads what is absent of an entry and puts it in its place.

    Each file goes to a temporary name beside its place, is verified, and renamed; whatever goes
    wrong, nothing is left half done. Files that are there are not fetched again.

    Args:
        store: Where the files belong.
        key: Catalogue key.
        accept_terms: Whether the user agreed to the entry's terms.
        offline: Refuse to use the network.
        report: Called with the progress of each file.
        timeout: Seconds without an answer after which a connection is given up.

    Returns:
        The files that were fetched, in catalogue order; empty if all were there.

    Raises:
        LookupError: If the key is unknown, or the weights come with a Python package.
        OfflineError: If something would have to be downloaded and `offline` is set.
        TermsError: If the entry has terms and they were not accepted.
        ConnectionError: If the server cannot be reached or answers with an error.
        WrongWeightsError: If a file differs from its published digest, or an archive lacks one.
        PermissionError: If the files can only be downloaded in a browser.
    """
    entry = store.entry(key)
    paths = store.paths(key)
    absent = [file for file in entry.files if not paths[file.path].is_file()]
    if not absent:
        return []
    if entry.route == "wheel":
        raise LookupError(store.how_to_get(key, paths[absent[0].path]))
    if entry.route == "manual":
        raise PermissionError(store.how_to_get(key, paths[absent[0].path]))
    if offline:
        raise OfflineError(
            f"offline mode is on, so weights {key!r} are not fetched; unset IDBENCH_OFFLINE and "
            f"HF_HUB_OFFLINE, or `idbench weights import {key} PATH`"
        )
    if entry.terms and not accept_terms:
        raise TermsError(
            f"weights {key!r} have terms: {entry.terms} See {entry.source}; "
            f"run `idbench weights fetch {key} --accept-terms` if you agree"
        )
    if entry.route == "archive":
        return _fetch_archive(store, entry, absent, report, timeout)
    return [_fetch_file(store, entry, file, report, timeout) for file in absent]


def _fetch_file(
    store: WeightStore,
    entry: WeightsEntry,
    file: WeightsFile,
    report: Report | None,
    timeout: float,
) -> Path:
    target = store.root / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_beside(target)
    try:
        _download(str(file.url), part, report, timeout)
        return store.commit(entry, file, part)
    finally:
        part.unlink(missing_ok=True)


def _fetch_archive(
    store: WeightStore,
    entry: WeightsEntry,
    absent: list[WeightsFile],
    report: Report | None,
    timeout: float,
) -> list[Path]:
    store.root.mkdir(parents=True, exist_ok=True)
    part = temporary_beside(store.root / f"{entry.key}.zip")
    try:
        digest = _download(str(entry.archive_url), part, report, timeout)
        if entry.archive_sha256 is not None and digest != entry.archive_sha256:
            raise WrongWeightsError(
                f"weights {entry.key!r}: the archive {entry.archive_url} has sha256 {digest}, "
                f"published is {entry.archive_sha256}; it was not unpacked"
            )
        return [unpack_member(store, entry, file, part) for file in absent]
    finally:
        part.unlink(missing_ok=True)


def unpack_member(
    store: WeightStore, entry: WeightsEntry, file: WeightsFile, archive: Path
) -> Path:
    """Writes one file of an entry out of a zip archive, wherever in the archive it lies.

    Only the base name of a member is looked at and the target is the catalogue's, so neither a
    folder in a folder nor a hostile name (`../x`, `/x`, a link) can place a file elsewhere.

    Raises:
        WrongWeightsError: If the archive is no zip file, or has no such member, or two, or one that
            is too large.
    """
    name = PurePosixPath(file.path).name
    try:
        opened = zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise WrongWeightsError(f"weights {entry.key!r}: {archive} is no zip archive") from error
    with opened:
        members = [
            info
            for info in opened.infolist()
            if not info.is_dir() and PurePosixPath(info.filename.replace("\\", "/")).name == name
        ]
        if len(members) != 1:
            raise WrongWeightsError(
                f"weights {entry.key!r}: the archive has {len(members)} files named {name}, not one"
            )
        if members[0].file_size > _MAX_MEMBER_BYTES:
            raise WrongWeightsError(
                f"weights {entry.key!r}: {name} claims {members[0].file_size} bytes in the archive"
            )
        target = store.root / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = temporary_beside(target)
        try:
            with opened.open(members[0]) as source, part.open("wb") as stream:
                shutil.copyfileobj(source, stream, _CHUNK)
            return store.commit(entry, file, part)
        finally:
            part.unlink(missing_ok=True)


def _download(url: str, target: Path, report: Report | None, timeout: float) -> str:
    if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise ConnectionError(f"refusing to fetch weights from {url}: not https")
    request = urllib.request.Request(url, headers={"User-Agent": "idbench"})
    digest = hashlib.sha256()
    received = 0
    try:
        with (
            urllib.request.urlopen(request, timeout=timeout) as answer,
            target.open("wb") as stream,
        ):
            length = answer.headers.get("Content-Length")
            total = int(length) if length is not None else None
            while chunk := answer.read(_CHUNK):
                stream.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                if report is not None:
                    report(url.rsplit("/", 1)[-1], received, total)
    except (OSError, HTTPException) as error:  # URLError and HTTPError are OSErrors
        raise ConnectionError(f"cannot fetch {url}: {error}") from error
    if total is not None and received != total:
        raise ConnectionError(
            f"cannot fetch {url}: the answer ended after {received} of {total} bytes"
        )
    return digest.hexdigest()
