"""The pictures of a report: small JPEG copies, blurred or left out as faces demand."""

import hashlib
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from idbench.files import write_whole
from idbench.progress import Progress
from idbench.prompts.suites import Suite

Faces = Literal["show", "blur", "omit"]

LONGEST_SIDE = 512
QUALITY = 85
# Across the longer side of a blurred picture: a face that fills it is five pixels wide. With 16,
# small copies of the demo's pictures could still be recognised.
BLURRED_SIDE = 8
# Sources whose pictures are public domain, CC0 or made by this project.
REDISTRIBUTABLE = frozenset({"embedded", "scikit-image"})


def default_faces(suites: Iterable[Suite]) -> Faces:
    """Show faces only if every source of every suite may be redistributed, else blur."""
    sources = {source.name for suite in suites for source in suite.sources}
    return "show" if sources <= REDISTRIBUTABLE else "blur"


def picture_name(sha256: str, faces: Faces) -> str:
    """Name of the copy of a picture: equal pictures share one."""
    how = f"{sha256}:{faces}:{LONGEST_SIDE}:{QUALITY}:{BLURRED_SIDE}"
    digest = hashlib.sha256(how.encode()).hexdigest()
    return f"{digest[:24]}.jpg"


def copy_pictures(pictures: Sequence[tuple[str, Path]], folder: Path, faces: Faces) -> list[Path]:
    """Writes the copies that are not there yet; returns the originals that cannot be read.

    Args:
        pictures: sha256 and path of each original.
        folder: Where the copies go.
        faces: Whether to blur; with "omit" nothing is written.
    """
    if faces == "omit":
        return []
    wanted = {picture_name(sha256, faces): path for sha256, path in pictures}
    absent = [
        (folder / name, path) for name, path in wanted.items() if not (folder / name).exists()
    ]
    unreadable: list[Path] = []
    # The codecs of Pillow let other threads run.
    with Progress("pictures", len(absent), "pictures") as progress, ThreadPoolExecutor() as pool:
        copied = pool.map(lambda job: _copy(job[0], job[1], faces), absent)
        for (_, path), done in zip(absent, copied, strict=True):
            if not done:
                unreadable.append(path)
            progress.advance()
    return unreadable


def _copy(target: Path, original: Path, faces: Faces) -> bool:
    try:
        with Image.open(original) as opened:
            if opened.width * opened.height > Image.MAX_IMAGE_PIXELS:  # type: ignore[operator]
                return False
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    if faces == "blur":
        size = picture.size
        picture.thumbnail((BLURRED_SIDE, BLURRED_SIDE), Image.Resampling.BOX)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    write_whole(target, buffer.getvalue())
    return True
