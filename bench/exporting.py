"""Runs written out in the layouts that other scorers read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from idbench.prompts.formats import (
    dreambench_plus,
    editedid,
    fastcomposer,
    ibench,
    multiid_bench,
    table,
)
from idbench.prompts.formats.unit import Unit
from idbench.prompts.importing import ImportedImage, units_of
from idbench.prompts.materialise import suite_files
from idbench.prompts.sources import resolve
from idbench.prompts.suites import Suite
from idbench.store import RunStore

WRITERS: dict[str, Callable[[Sequence[Unit], Path], Path]] = {
    "dreambench-plus": dreambench_plus.write,
    "editedid": editedid.write,
    "fastcomposer": fastcomposer.write,
    "ibench": ibench.write,
    "multiid-bench": multiid_bench.write,
    "table": table.write,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedRun:
    """What an export wrote; `without_image` samples had nothing to write."""

    path: Path
    images: int
    without_image: int


def export_run(
    layout: str, directory: Path, suite: Suite, target: Path, *, data_root: Path, base: Path | None
) -> ExportedRun:
    """Writes the images of a run, and those of its base run, in a foreign layout below `target`.

    Raises:
        LookupError: If the layout is unknown.
        ManifestError: If the layout cannot hold a case of this suite.
        FileNotFoundError: If an image or a reference is gone.
    """
    if layout not in WRITERS:
        raise LookupError(f"unknown layout {layout!r}; known: {', '.join(WRITERS)}")
    counterparts: dict[tuple[str, int], Path] = {}
    if base:
        with RunStore.open(base) as store:
            counterparts = {
                (s.case_id, s.sample): store.directory / s.path
                for s in store.samples("ok")
                if s.path
            }
    with RunStore.open(directory) as store:
        samples = store.samples("ok")
        without = len(store.samples()) - len(samples)
    images = [
        ImportedImage(
            case_id=s.case_id,
            sample=s.sample,
            path=directory / s.path if s.path else None,
            seed=s.seed,
            base=counterparts.get((s.case_id, s.sample)),
        )
        for s in samples
    ]
    files = {
        (source, path): resolve(file, source, data_root)
        for (source, path), file in suite_files(suite).items()
    }
    target.mkdir(parents=True, exist_ok=True)
    path = WRITERS[layout](units_of(suite, images, files), target)
    return ExportedRun(path=path, images=len(images), without_image=without)
