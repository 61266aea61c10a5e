"""`images`: a folder of images that are already made.

Where the folder `DIR` holds the image of sample `k` of a case (`.png`, `.jpg`, `.jpeg`, `.webp`,
`.bmp`, `.tif` or `.tiff`; the first that exists counts):

    DIR/<case_id>/<kkk>.png     three digits: the layout of a run, so any run can be scored again
    DIR/<case_id>_<k>.png
    DIR/<case_id>.png           sample 0
    DIR/<alias>/<kkk>.png, DIR/<alias>_<k>.png, DIR/<alias>.png

The alias is the readable name of a case; it counts only where it is unique in its suite. Two files
of one name that differ in their suffix are refused: which of them is meant cannot be known.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from PIL import Image

from idbench.methods.protocol import Capabilities, Failure, Kind, Request
from idbench.methods.wrappers.answers import sized, slug
from idbench.methods.wrappers.image_file import read_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Images:
    """Answers with images from a folder; what is missing there is a failure `no_image`.

    Attributes:
        dir: The folder. Files that lie outside it, by `..` or by a link, are not read.
        label: What tables call it; the name of the folder if empty.
    """

    dir: Path
    label: str = ""

    capabilities: Capabilities = field(
        default=Capabilities(
            kinds=frozenset(get_args(Kind)), max_people=64, uses_seed=False, uses_references=False
        ),
        init=False,
    )

    def __post_init__(self) -> None:
        """Checks that there is such a folder."""
        if not Path(self.dir).is_dir():
            raise ValueError(f"dir must be a folder of images, got {str(self.dir)!r}")

    @property
    def name(self) -> str:
        """The label, else the name of the folder."""
        return slug(self.label or Path(self.dir).resolve().name)

    def fingerprint(self) -> Mapping[str, object]:
        """The content of every image in the folder, by name; where the folder is does not count."""
        root = Path(self.dir).resolve()
        content = hashlib.sha256()
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in SUFFIXES and _is_file(path) and _inside(path, root):
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                content.update(f"{path.relative_to(root).as_posix()} {digest}\n".encode())
        return {"method": "images", "version": 1, "label": self.name, "sha256": content.hexdigest()}

    def generate(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        """The image of each request, or why there is none."""
        return [self._image(request) for request in requests]

    def _image(self, request: Request) -> Image.Image | Failure:
        root = Path(self.dir).resolve()
        for stem in _stems(request):
            found = _with_suffixes(root / stem)
            if not found:
                continue
            if not all(_inside(path, root) for path in found):
                return Failure("outside", f"{stem} leads out of the folder of images")
            if len(found) > 1:
                names = ", ".join(path.name for path in found)
                return Failure("ambiguous", f"several files for one sample: {names}")
            return sized(read_image(found[0]), request.width, request.height)
        stem = f"{request.case_id}/{request.sample:03d}"
        return Failure("no_image", f"no {stem}.png or another name that the folder may use")


def _stems(request: Request) -> Iterator[str]:
    for name in (request.case_id, request.alias):
        if not name:
            continue
        yield f"{name}/{request.sample:03d}"
        yield f"{name}_{request.sample}"
        if request.sample == 0:
            yield name


def _with_suffixes(stem: Path) -> list[Path]:
    """The names a file may have; on file systems that ignore case the two spellings are one."""
    names: dict[str, Path] = {}
    for suffix in (*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES)):
        path = stem.parent / (stem.name + suffix)
        if _is_file(path):
            names.setdefault(str(path.resolve()), path)
    return list(names.values())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False


def _inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root)
