"""Masks of subjects that people made: kept by the content of the image that they belong to."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idbench.files import write_whole
from idbench.metrics.images import ImageError, read_rgb, sha256_of

FOLDER = "masks"  # below the data folder
_NAME = re.compile(r"([0-9a-f]{64})-([0-9a-f]{64})\.png")


@dataclass(frozen=True, slots=True)
class StoredMask:
    """A mask in the data folder, and the sha256 of its file."""

    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MasksImported:
    """What an import did: masks registered now, those that were there, images without one."""

    added: int
    known: int
    without: tuple[Path, ...]


def masks_in(data_root: Path) -> Mapping[str, StoredMask]:
    """The registered masks, by the sha256 of the image file that they belong to."""
    folder = data_root / FOLDER
    if not folder.is_dir():
        return {}
    named = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return {match[1]: StoredMask(path, match[2]) for match, path in named if match}


def read_mask(mask: StoredMask) -> NDArray[np.bool_]:
    """The mask, `height width`, true on the subject.

    Raises:
        ImageError: If the file is not the one that was registered.
    """
    if sha256_of(mask.path) != mask.sha256:
        raise ImageError(f"{mask.path} changed; delete it and import the mask again")
    return _is_subject(mask.path)


def import_masks(images: Path, masks: Path, data_root: Path) -> MasksImported:
    """Registers the masks of a folder for the images of another, by equal names.

    An image `a/b.jpg` has the mask `a/b.png` (or any other image format), of the same size; white
    is the subject. All pairs are read before anything is written. A mask that is registered is
    never replaced, because scores may stand on it.

    Raises:
        FileNotFoundError: If a folder is absent or holds no pair.
        ImageError: If a file cannot be read.
        ValueError: If a mask has another size than its image, shows nothing, or differs from the
            one that is registered.
    """
    found = {path.relative_to(masks).with_suffix(""): path for path in _files(masks)}
    known = dict(masks_in(data_root))
    new: dict[Path, bytes] = {}
    kept = 0
    without = []
    for image in _files(images):
        mask = found.get(image.relative_to(images).with_suffix(""))
        if mask is None:
            without.append(image)
            continue
        content = _encoded(image, mask)
        key, digest = sha256_of(image), hashlib.sha256(content).hexdigest()
        if key in known and known[key].sha256 != digest:
            raise ValueError(
                f"{mask}: {image} has another mask already, on which scores may stand; "
                f"to replace it delete {known[key].path}"
            )
        if key in known:
            kept += 1
            continue
        known[key] = StoredMask(data_root / FOLDER / f"{key}-{digest}.png", digest)
        new[known[key].path] = content
    if not new and not kept:
        raise FileNotFoundError(
            f"no image of {images} has a mask of the same name in {masks}; "
            "a/b.jpg belongs to a/b.png"
        )
    for path, content in new.items():
        write_whole(path, content)
    return MasksImported(added=len(new), known=kept, without=tuple(without))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    hidden = (path for path in sorted(folder.rglob("*")) if not path.name.startswith("."))
    return [path for path in hidden if path.is_file()]


def _encoded(image: Path, mask: Path) -> bytes:
    subject = _is_subject(mask)
    height, width = read_rgb(image).shape[:2]
    if subject.shape != (height, width):
        raise ValueError(
            f"{mask} is {subject.shape[1]} x {subject.shape[0]} pixels, its image {image} "
            f"{width} x {height}; they must be equal"
        )
    if not subject.any():
        raise ValueError(f"{mask} is black: it shows no subject; white is the subject")
    stream = BytesIO()
    Image.fromarray(subject).save(stream, "PNG")
    return stream.getvalue()


def _is_subject(path: Path) -> NDArray[np.bool_]:
    subject: NDArray[np.bool_] = read_rgb(path)[:, :, 0] >= 128
    return subject
