"""Alignment of a face to the five-point template of ArcFace."""

import numpy as np
from numpy.typing import NDArray

# Left eye, right eye, nose, left and right mouth corner on 112 x 112 pixels; the template of
# insightface that ArcFace networks are trained on.
ARCFACE_TEMPLATE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)


def template(size: int) -> NDArray[np.float64]:
    """The template on `size` pixels: scaled for multiples of 112, scaled and shifted for 128.

    Raises:
        ValueError: If `size` is a multiple of neither.
    """
    if size % 112 == 0:
        scale, shift = size / 112, 0.0
    elif size % 128 == 0:
        scale, shift = size / 128, 8 * size / 128
    else:
        raise ValueError(f"size must be a multiple of 112 or of 128, got {size}")
    points: NDArray[np.float64] = ARCFACE_TEMPLATE * scale + np.array([shift, 0.0])
    return points


def similarity_transform(
    source: NDArray[np.floating], target: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The similarity that carries `source` to `target` (`n 2`) with least squared error, `2 3`.

    Rotation, uniform scale and translation, no reflection: Umeyama, "Least-squares estimation of
    transformation parameters between two point patterns", PAMI 1991. Coinciding source points
    give a matrix of NaN.
    """
    source = np.asarray(source, np.float64)
    target = np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    centred = source - source_mean
    covariance = (target - target_mean).T @ centred / len(source)
    variance = np.square(centred).sum() / len(source)
    if variance == 0:
        return np.full((2, 3), np.nan)
    u, singular, vt = np.linalg.svd(covariance)
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = u @ np.diag(signs) @ vt
    scale = singular @ signs / variance
    shift = target_mean - scale * rotation @ source_mean
    return np.hstack([scale * rotation, shift[:, None]])


def face_transform(points: NDArray[np.floating], size: int = 112) -> NDArray[np.float64]:
    """The `2 3` matrix from image pixels to an aligned face of `size` pixels, for five points."""
    return similarity_transform(points, template(size))
