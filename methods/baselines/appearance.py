"""`colour`, `blur`, `jpeg`: the same pixels in the same places, looking different."""

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from idbench.methods.baselines.baseline import Baseline, check_range
from idbench.methods.baselines.photos import NoImageError, Photo

JPEG_MAX_SIDE = 65500  # of libjpeg


@dataclass(frozen=True, kw_only=True, slots=True)
class Colour(Baseline):
    """Changes brightness, then contrast, then saturation, as Pillow's `ImageEnhance` defines them.

    Near the corner of `copy`: a change of light that identity should survive and that no pose or
    expression metric should notice. A metric that moves here is measuring the photograph.

    Attributes:
        brightness: Factor on all values, in [0, 10]; 1 changes nothing, 0 is black.
        contrast: Distance from the mean grey, in [0, 10]; 1 changes nothing, 0 is uniform grey.
        saturation: Distance from grey of the same lightness, in [0, 10]; 1 changes nothing.
    """

    brightness: float = 1.3
    contrast: float = 1.0
    saturation: float = 0.5

    name: ClassVar[str] = "colour"

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_range("brightness", self.brightness, 0.0, 10.0)
        check_range("contrast", self.contrast, 0.0, 10.0)
        check_range("saturation", self.saturation, 0.0, 10.0)

    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The photograph in other colours."""
        image = ImageEnhance.Brightness(photo.image).enhance(self.brightness)
        image = ImageEnhance.Contrast(image).enhance(self.contrast)
        return ImageEnhance.Color(image).enhance(self.saturation)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blur(Baseline):
    """Gaussian blur.

    Gives up preservation and gets nothing for it: below `copy` on one axis, level with it on the
    other, so never on a front. Strong blur hides the face from the detector and tests coverage.

    Attributes:
        sigma: Standard deviation in pixels of the answer, in [0, 256]; 0 changes nothing.
    """

    sigma: float = 4.0

    name: ClassVar[str] = "blur"

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_range("sigma", self.sigma, 0.0, 256.0)

    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The photograph blurred; beyond the border its edge pixels repeat."""
        pixels = np.asarray(photo.image)
        blurred = np.empty_like(pixels)
        for channel in range(3):
            values = pixels[:, :, channel].astype(np.float32)
            blurred[:, :, channel] = np.rint(gaussian_filter(values, self.sigma, mode="nearest"))
        return Image.fromarray(blurred)


@dataclass(frozen=True, kw_only=True, slots=True)
class Jpeg(Baseline):
    """Compresses as JPEG (4:2:0) and reads the result back.

    Like `blur` but with artefacts in place of softness: image quality falls well before identity.

    Attributes:
        quality: libjpeg's quality, 1 to 95.
    """

    quality: int = 10

    name: ClassVar[str] = "jpeg"

    def __post_init__(self) -> None:
        """Checks the parameters."""
        check_range("quality", self.quality, 1, 95)

    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The photograph after compression."""
        if max(photo.image.size) > JPEG_MAX_SIDE:
            raise NoImageError("bad_size", f"a JPEG side has at most {JPEG_MAX_SIDE} pixels")
        buffer = io.BytesIO()
        photo.image.save(buffer, "JPEG", quality=self.quality, subsampling="4:2:0")
        with Image.open(buffer) as compressed:
            return compressed.convert("RGB")
