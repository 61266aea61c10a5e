"""The picture of five points of a face that InstantID's ControlNet looks at.

Source: `draw_kps` and `infer.py` of instantX-research/InstantID (commit 0feb048): eyes, nose and
corners of the mouth as discs of radius 10, each joined to the nose by a bar of half width 4 that is
darkened to 60 %. There the picture has the size of the reference; here it has that of the image to
make, with the whole reference fitted into its middle.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# RGB of left eye, right eye, nose, left and right corner of the mouth.
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
NOSE = 2
RADIUS = 10
HALF_WIDTH = 4
DARKENED = 0.6

Points = NDArray[np.floating]


def fitted(points: Points, picture: tuple[int, int], canvas: tuple[int, int]) -> Points:
    """Points of a picture where they lie when the whole picture fits into a canvas, centred.

    Sizes are (width, height) in pixels; `points` is (n, 2).
    """
    scale = min(canvas[0] / picture[0], canvas[1] / picture[1])
    margin = (np.asarray(canvas) - scale * np.asarray(picture)) / 2
    placed: Points = np.asarray(points, np.float64) * scale + margin
    return placed


def draw_landmarks(points: Points, canvas: tuple[int, int]) -> Image.Image:
    """Five points (5, 2) on black, RGB, of size (width, height)."""
    picture = np.zeros((canvas[1], canvas[0], 3), np.float64)
    nose = points[NOSE]
    for index, point in enumerate(points):
        if index == NOSE:
            continue
        dx, dy = (point - nose).tolist()
        middle = (point + nose) / 2
        bar = cv2.ellipse2Poly(
            (int(middle[0]), int(middle[1])),
            (int(math.hypot(dx, dy) / 2), HALF_WIDTH),
            int(math.degrees(math.atan2(dy, dx))),
            0,
            360,
            1,
        )
        cv2.fillConvexPoly(picture, np.asarray(bar, np.int32), COLOURS[index])
    discs = (picture * DARKENED).astype(np.uint8)
    for point, colour in zip(points, COLOURS, strict=True):
        cv2.circle(discs, (int(point[0]), int(point[1])), RADIUS, colour, -1)
    return Image.fromarray(discs)
