"""Change of the geometry of eyes and mouth: an expression change without a classifier."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.faces import DLIB, match_faces
from idbench.metrics.protocol import MetricInfo, Missing, Observation


def expression_geometry(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Eye opening, mouth opening and mouth width of 68 landmarks (`68 2`), all without unit.

    - Eye opening: mean height over width of both eyes.
    - Mouth opening: mean height over width of the inner lips.
    - Mouth width: outer mouth corners over outer eye corners.

    Section D.3 of the metric specification. Unchanged by shift, rotation and scale. A width of 0
    counts as 1 pixel.
    """
    points = np.asarray(points, np.float64)

    def apart(a: int, b: int) -> float:
        return float(np.linalg.norm(points[a] - points[b]))

    def opening(pairs: tuple[tuple[int, int], ...], corners: tuple[int, int]) -> float:
        height = sum(apart(upper, lower) for upper, lower in pairs) / len(pairs)
        return height / (apart(*corners) or 1.0)

    left_eye = opening(((37, 41), (38, 40)), (36, 39))
    right_eye = opening(((43, 47), (44, 46)), (42, 45))
    mouth = opening(((61, 67), (62, 66), (63, 65)), (60, 64))
    width = apart(48, 54) / (apart(36, 45) or 1.0)
    return np.array([(left_eye + right_eye) / 2, mouth, width])


class ExprChangeDlib68:
    """Mean absolute change of eye opening, mouth opening and mouth width of the matched faces.

    A change of geometry, not of emotion: it is neither Exprdiv nor Expr.

    Missing: `no_reference_face`, `no_face`, `several_people`.
    """

    version = 1
    needs = DLIB.needs()
    info = MetricInfo(
        name="expr_change",
        protocol="strict",
        backend="dlib68",
        summary="change of eye and mouth geometry between the matched faces",
        unit="ratio",
        higher_is_better=True,
        bounds=(0.0, np.inf),
        axis="editability",
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Geometry change of the matched faces."""
        match = match_faces(observation, DLIB)
        reference = observation.get("reference", "dlib_face")["points68"][match.reference]
        generated = observation.get("generated", "dlib_face")["points68"][match.best]
        change = expression_geometry(generated) - expression_geometry(reference)
        return {"": float(np.abs(change).mean())}
