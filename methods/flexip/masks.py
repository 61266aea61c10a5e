"""Masks of references that somebody made: a folder of `<sha256 of the reference>.png`."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from idbench.methods.common.locations import digest_of_files


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """White is the subject, black is not; a reference without a file is used whole."""

    folder: Path

    def __post_init__(self) -> None:
        """Checks that the folder is there.

        Raises:
            ValueError: If it is not.
        """
        if not self.folder.is_dir():
            raise ValueError(f"masks must be a folder of <sha256>.png, got {self.folder}")

    def find(self, sha256: str) -> Image.Image | None:
        """The mask of a reference, mode "L", or None."""
        file = self.folder / f"{sha256}.png"
        if not file.is_file():
            return None
        with Image.open(file) as image:
            return image.convert("L")

    def digest(self) -> str:
        """SHA-256 of the names and contents of all masks."""
        return digest_of_files(self.folder, sorted(self.folder.glob("*.png")))
