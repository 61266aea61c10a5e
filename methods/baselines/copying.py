"""`copy`: the reference itself."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from PIL import Image

from idbench.methods.baselines.baseline import Baseline
from idbench.methods.baselines.photos import Photo, edit_photo, photos_of
from idbench.methods.protocol import Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy(Baseline):
    """Answers with the reference, pixel for pixel where the size allows it.

    The corner of complete preservation without any editability: what a metric of preservation
    calls perfect, and the score that pasting the input reaches. Several people stand side by side.
    For an edit it answers with the edited image, which is doing nothing: every edit kept, identity
    as damaged as it came; `of="original"` answers with the photograph before the edit, the
    opposite corner, identity whole and the edit lost. Other kinds do not look at `of`.
    """

    of: Literal["edited", "original"] = "edited"

    name: ClassVar[str] = "copy"

    def __post_init__(self) -> None:
        """Checks the parameters."""
        if self.of not in ("edited", "original"):
            raise ValueError(f"of must be 'edited' or 'original', got {self.of!r}")

    def photos(self, request: Request) -> list[Photo]:
        """The references, or the image of the edit that `of` names."""
        if request.kind == "edit_restoration":
            return [edit_photo(request, of=self.of)]
        return photos_of(request)

    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The photograph."""
        return photo.image
