"""Making sure that every file of a suite is there: derived pictures are built, others verified."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from idbench.prompts.cases import Case, File, Reference
from idbench.prompts.files import sha256_of, write_whole
from idbench.prompts.sources import DriftError, resolve, source_root
from idbench.prompts.suites import Suite

Progress = Callable[[int, int, str], None]  # done, total, path


def case_files(case: Case) -> Iterator[tuple[Reference | File, str]]:
    """Every file that a case needs, with its source."""
    for reference in case.references:
        yield reference, reference.source
    if case.ground_truth:
        yield case.ground_truth, case.ground_truth.source or case.references[0].source
    if case.edit:
        masks = (element.mask for element in case.edit.elements)
        for file in (case.edit.original, case.edit.edited, case.edit.restored, *masks):
            if file:
                yield file, file.source or case.edit.source


def suite_files(suite: Suite) -> dict[tuple[str, str], Reference | File]:
    """The files of a suite, each once, by source and path, in the order of first use."""
    found: dict[tuple[str, str], Reference | File] = {}
    for case in suite.cases:
        for file, source in case_files(case):
            found.setdefault((source, file.path), file)
    return found


def materialise(suite: Suite, data_root: Path, progress: Progress | None = None) -> None:
    """Builds the derived pictures that `suite` needs and verifies every other file.

    Nothing is downloaded. A derived picture that is there with the frozen sha256 is kept; a
    damaged one is built again.

    Raises:
        FileNotFoundError: If a file, or the package that brings it, is absent; with what to do.
        DriftError: If a file differs from what the suite was frozen with.
        OSError: If the folder of derived pictures cannot be written.
    """
    needed = suite_files(suite)
    for done, ((source, path), file) in enumerate(needed.items(), start=1):
        if source == "embedded":
            build_picture(file, data_root)
        else:
            resolve(file, source, data_root)
        if progress:
            progress(done, len(needed), path)


def build_picture(file: Reference | File, data_root: Path) -> Path:
    """Builds one derived picture unless it is there, and returns its path.

    Raises:
        LookupError: If no recipe makes this path.
        DriftError: If the recipe yields another picture than the frozen one.
    """
    from idbench.prompts.embedded.recipes import RECIPES  # numpy and Pillow, only where needed

    target = source_root("embedded", data_root) / file.path
    if target.is_file() and sha256_of(target) == file.sha256:
        return target
    if file.path not in RECIPES:
        raise LookupError(f"no recipe makes {file.path!r}; known: {', '.join(RECIPES)}")
    content = RECIPES[file.path](data_root)
    actual = hashlib.sha256(content).hexdigest()
    if actual != file.sha256:
        raise DriftError(
            f"{file.path} came out with sha256 {actual}, but the suite was frozen with "
            f"{file.sha256}: the installed Pillow decodes a photograph differently or the suite is "
            f"of another version of idbench; install Pillow from its own wheel and this version"
        )
    write_whole(target, [content])
    return target
