"""Drawn faces: people who do not exist, for layouts and for edits; no face model is fooled."""

from dataclasses import dataclass

import numpy as np

from idbench.prompts.embedded.pictures import Colour, Ellipse, Picture, enlarged, reduced

SIZE = 512
_LIPS: Colour = (168, 74, 74)
_WHITE: Colour = (245, 245, 240)
_BLACK: Colour = (25, 22, 20)


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnFace:
    """The three parameters of a drawn face; `width` is a share of its height."""

    skin: Colour
    hair: Colour
    width: float


DRAWN_FACES = {
    "drawn-1": DrawnFace(skin=(236, 188, 160), hair=(60, 40, 30), width=0.72),
    "drawn-2": DrawnFace(skin=(150, 98, 66), hair=(170, 170, 175), width=0.80),
}


def paint_features(canvas: Picture, face: Ellipse, drawn: DrawnFace, *, scale: int) -> None:
    """Paints skin, eyes, brows, nose and mouth into the ellipse `face` of an enlarged canvas."""
    shade: Colour = tuple(channel * 4 // 5 for channel in drawn.skin)  # type: ignore[assignment]  # three channels in, three out

    def fill(ellipse: Ellipse, colour: Colour) -> None:
        ellipse.paint(canvas, colour, scale=scale)

    fill(face, drawn.skin)
    for side in (-1, 1):
        fill(face.at(0.38 * side, -0.30, 0.22, 0.035), drawn.hair)
        fill(face.at(0.38 * side, -0.14, 0.17, 0.075), _WHITE)
        fill(face.at(0.38 * side, -0.14, 0.085, 0.07), (70, 90, 110))
        fill(face.at(0.38 * side, -0.14, 0.045, 0.036), _BLACK)
    fill(face.at(0, 0.12, 0.055, 0.17), shade)
    fill(face.at(0, 0.27, 0.13, 0.055), shade)
    fill(face.at(0, 0.53, 0.33, 0.085), _LIPS)
    fill(face.at(0, 0.525, 0.29, 0.018), _BLACK)


def drawn_portrait(drawn: DrawnFace) -> Picture:
    """Head and shoulders of a drawn person, `SIZE` x `SIZE`."""
    background = np.full((SIZE, SIZE, 3), (176, 190, 198), dtype=np.uint8)
    canvas = enlarged(background)
    scale = canvas.shape[0] // SIZE
    face = Ellipse(x=256, y=230, rx=140 * drawn.width, ry=140)

    def fill(ellipse: Ellipse, colour: Colour) -> None:
        ellipse.paint(canvas, colour, scale=scale)

    fill(Ellipse(x=256, y=540, rx=215, ry=160), (72, 92, 130))
    fill(face.at(0, -0.12, 1.22, 1.12), drawn.hair)
    fill(face.at(0, 1.05, 0.42, 0.48), drawn.skin)
    for side in (-1, 1):
        fill(face.at(1.0 * side, 0.0, 0.13, 0.17), drawn.skin)
    paint_features(canvas, face, drawn, scale=scale)
    fill(face.at(0, -0.88, 0.82, 0.30), drawn.hair)
    return reduced(canvas)
