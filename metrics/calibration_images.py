"""Known changes of a photograph, for the checks of part E of the metric specification."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Pixels = NDArray[np.uint8]


def unchanged(image: Pixels) -> Pixels:
    """The image itself."""
    return image


def rolled(degrees: float) -> Callable[[Pixels], Pixels]:
    """A turn about the centre, counter-clockwise as seen, on the same canvas."""

    def turn(image: Pixels) -> Pixels:
        turned = Image.fromarray(image).rotate(degrees, resample=Image.Resampling.BICUBIC)
        return np.array(turned)

    return turn


def scaled(factor: float) -> Callable[[Pixels], Pixels]:
    """Another resolution, by areas."""

    def scale(image: Pixels) -> Pixels:
        height, width = image.shape[:2]
        size = round(width * factor), round(height * factor)
        return np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))

    return scale


def padded(share: float) -> Callable[[Pixels], Pixels]:
    """A grey border on each side, in shares of the size."""

    def pad(image: Pixels) -> Pixels:
        rows, columns = (round(side * share) for side in image.shape[:2])
        return np.pad(image, ((rows, rows), (columns, columns), (0, 0)), constant_values=128)

    return pad


def mirrored(image: Pixels) -> Pixels:
    """Left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1])


def blurred(sigma: float) -> Callable[[Pixels], Pixels]:
    """A Gaussian blur, in pixels."""

    def blur(image: Pixels) -> Pixels:
        smooth = gaussian_filter(image.astype(np.float64), (sigma, sigma, 0))
        return np.rint(smooth).astype(np.uint8)

    return blur


def brightened(factor: float) -> Callable[[Pixels], Pixels]:
    """Values times a factor, cut off at 255."""

    def brighten(image: Pixels) -> Pixels:
        brighter: Pixels = np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)
        return brighter

    return brighten


def recompressed(quality: int) -> Callable[[Pixels], Pixels]:
    """Through JPEG and back."""

    def recompress(image: Pixels) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        return np.array(Image.open(buffer).convert("RGB"))

    return recompress


def noisy(sigma: float) -> Callable[[Pixels], Pixels]:
    """Gaussian noise in grey levels, of a fixed seed."""

    def add(image: Pixels) -> Pixels:
        noise = np.random.default_rng(0).normal(0, sigma, image.shape)
        return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)

    return add


def faceless(image: Pixels) -> Pixels:
    """The lower third, which shows no face in a portrait."""
    return np.ascontiguousarray(image[-(image.shape[0] // 3) :])


def grey(image: Pixels) -> Pixels:
    """A uniform grey image of the same size."""
    return np.full_like(image, 128)


def beside_larger(image: Pixels, other: Pixels) -> Pixels:
    """The image at half its size, with another one beside it at full height."""
    height, width = image.shape[:2]
    small = np.array(Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.BOX))
    factor = height / other.shape[0]
    size = max(round(other.shape[1] * factor), 1), height
    large = np.array(Image.fromarray(other).resize(size, Image.Resampling.BICUBIC))
    canvas = np.full((height, small.shape[1] + large.shape[1], 3), 128, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    canvas[:, small.shape[1] :] = large
    return canvas


def side_by_side(left: Pixels, right: Pixels) -> Pixels:
    """Two images of one height beside one another; the right one is resized to the left."""
    size = round(right.shape[1] * left.shape[0] / right.shape[0]), left.shape[0]
    resized = np.array(Image.fromarray(right).resize(size, Image.Resampling.BICUBIC))
    return np.concatenate([left, resized], axis=1)


# Scenario -> the generated image made of the photograph.
TRANSFORMS: Mapping[str, Callable[[Pixels], Pixels]] = {
    "none": unchanged,
    **{f"roll {k}": rolled(k) for k in (10, 15, 20, 30)},
    "half size": scaled(0.5),
    "pad 20 %": padded(0.2),
    "mirror": mirrored,
    **{f"blur {sigma}": blurred(sigma) for sigma in (1, 2, 4)},
    "brightness 0.5": brightened(0.5),
    "brightness 1.3": brightened(1.3),
    **{f"jpeg {quality}": recompressed(quality) for quality in (90, 50, 20)},
    **{f"noise {sigma}": noisy(sigma) for sigma in (10, 25, 50)},
    "no face": faceless,
    "grey": grey,
}
