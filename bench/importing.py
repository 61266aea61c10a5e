"""Images that others made, as runs: scored and tabulated like those made here."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from idbench.environment import environment
from idbench.files import StorageError
from idbench.prompts.cases import hashed_seed
from idbench.prompts.freezing import write_suite
from idbench.prompts.importing import Imported, ImportedImage
from idbench.prompts.tags import case_tags
from idbench.records import Sample
from idbench.store import RunIdentity, RunStore

SUITE_FOLDER = "suite"  # inside a run on a suite that exists nowhere else


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedRun:
    """What an import made. `base` is the run of the images without identity, if there are any."""

    directory: Path
    base: Path | None
    images: int
    missing: int


def import_runs(
    imported: Imported,
    *,
    workspace: Path,
    method: str,
    layout: str,
    copy: bool = False,
    base_name: str = "base",
) -> ImportedRun:
    """Makes a run of the imported images, and one of their counterparts without identity.

    Images are linked, or copied with `copy`. The same import again changes nothing. A suite that
    was made from the import is frozen inside each run.

    Raises:
        StorageError: If the workspace cannot be written.
        ValueError: If the import holds no case at all.
    """
    if not imported.images:
        raise ValueError("nothing could be imported: no row has a case; see the counts above")
    directory = _import_run(
        imported, imported.images, workspace=workspace, method=method, layout=layout, copy=copy
    )
    bases = tuple(
        ImportedImage(case_id=image.case_id, sample=image.sample, path=image.base)
        for image in imported.images
        if image.base
    )
    base = None
    if bases:
        base = _import_run(
            imported, bases, workspace=workspace, method=base_name, layout=layout, copy=copy
        )
    present = sum(image.path is not None for image in imported.images)
    return ImportedRun(
        directory=directory, base=base, images=present, missing=len(imported.images) - present
    )


def _import_run(
    imported: Imported,
    images: Iterable[ImportedImage],
    *,
    workspace: Path,
    method: str,
    layout: str,
    copy: bool,
) -> Path:
    suite = imported.suite
    hashes = {
        (image.case_id, image.sample): _sha256(image.path) if image.path else "" for image in images
    }
    content = hashlib.sha256(repr(sorted(hashes.items())).encode()).hexdigest()
    identity = RunIdentity(
        label=method,
        method={
            "name": method,
            "target": f"imported:{layout}",
            "args": dict(imported.parameters),
            "fingerprint": {"method": method, "imported": layout, "images": content},
        },
        suite={
            "name": suite.name,
            "target": suite.name,
            "version": suite.version,
            "kind": suite.kind,
            "sha256": suite.sha256,
            "samples_per_case": suite.samples_per_case,
        },
        seed_policy="hashed",
        size=None,
        environment=environment("cpu"),
    )
    with RunStore.create(workspace, identity) as store, store.writing():
        if isinstance(suite.cases, tuple):
            write_suite(suite, store.directory / SUITE_FOLDER)
        cases = {image.case_id: suite.case(image.case_id) for image in images}
        store.plan(
            (_sample(image), case.identity, case.multiplicity, case_tags(case))
            for image, case in ((image, cases[image.case_id]) for image in images)
        )
        done = {(s.case_id, s.sample) for s in store.samples("ok")}
        todo = [image for image in images if (image.case_id, image.sample) not in done]
        store.record(
            _placed(image, hashes[image.case_id, image.sample], store.directory, copy)
            for image in todo
        )
        return store.directory


def _sample(image: ImportedImage) -> Sample:
    seed = image.seed if image.seed is not None else hashed_seed(image.case_id, image.sample)
    return Sample(case_id=image.case_id, sample=image.sample, seed=seed, status="pending")


def _placed(image: ImportedImage, sha256: str, directory: Path, copy: bool) -> Sample:
    planned = _sample(image)
    if image.path is None:
        return Sample(
            case_id=planned.case_id,
            sample=planned.sample,
            seed=planned.seed,
            status="failed",
            reason="no_image",
            detail="the image was missing or unreadable when it was imported",
        )
    relative = f"images/{image.case_id}/{image.sample:03d}{image.path.suffix.lower()}"
    _put(image.path, directory / relative, copy)
    return Sample(
        case_id=planned.case_id,
        sample=planned.sample,
        seed=planned.seed,
        status="ok",
        path=relative,
        sha256=sha256,
        width=image.width,
        height=image.height,
    )


def _put(source: Path, target: Path, copy: bool) -> None:
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        if copy:
            shutil.copyfile(source, part)
        else:
            part.symlink_to(os.path.abspath(source))  # noqa: PTH100 - resolve() would follow links
        part.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
