"""`noise`: nothing at all, or a reference under noise."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from PIL import Image

from idbench.methods.baselines.baseline import UNSEEDED, Baseline, check_range, generator_of
from idbench.methods.baselines.layout import canvas_size, check_size
from idbench.methods.baselines.photos import NoImageError, Photo
from idbench.methods.protocol import Capabilities, Request

DEFAULT_SIDE = 512  # of an image of noise for which neither request nor reference states a size


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise(Baseline):
    """Answers with uniform noise; with `sigma`, adds Gaussian noise to the reference instead.

    Pure noise is off the plane: it shows no face, so every face metric misses it, and a mean that
    drops misses silently would rank it by nothing. Its coverage of 0/N is its result. With `sigma`
    it degrades like `blur` and `jpeg`.

    Attributes:
        sigma: Standard deviation of the added noise in grey levels, in [0, 255]; None for pure
            noise, which needs no reference.
    """

    sigma: float | None = None

    name: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        """Checks the parameters."""
        if self.sigma is not None:
            check_range("sigma", self.sigma, 0.0, 255.0)

    @property
    def capabilities(self) -> Capabilities:
        """Every seed is other noise; pure noise looks at no reference."""
        return replace(UNSEEDED, uses_seed=True, uses_references=self.sigma is not None)

    def picture(self, request: Request) -> Image.Image:
        """Pure noise at the size of the answer, or the noisy photographs."""
        if self.sigma is not None:
            # Zero-argument super() does not find the class that slots=True recreates.
            return Baseline.picture(self, request)
        width, height = self._size(request)
        pixels = generator_of(request).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The photograph plus noise, clipped to [0, 255]."""
        pixels = np.asarray(photo.image)
        added = generator.standard_normal(pixels.shape, dtype=np.float32) * np.float32(self.sigma)
        return Image.fromarray(np.rint(pixels + added).clip(0, 255).astype(np.uint8))

    def _size(self, request: Request) -> tuple[int, int]:
        try:
            return canvas_size(request, self.photos(request))
        except NoImageError as error:
            if error.failure.reason == "bad_size":
                raise
        size = request.width or DEFAULT_SIDE, request.height or DEFAULT_SIDE
        check_size(*size)
        return size
