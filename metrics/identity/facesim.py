"""FaceSim: how much the generated face looks like the reference."""

from collections.abc import Mapping

from idbench.metrics.faces import DLIB, FaceBackend, match_faces
from idbench.metrics.protocol import Metric, MetricInfo, Missing, Observation


class FaceSimStrict:
    """Similarity of the reference face and the face most like it in the generated image.

    Section A.1 `strict` of the metric specification. Variants: "" the most similar face, `largest`
    the largest one.

    Missing: `no_reference_face`, `no_face`, `several_people`.
    """

    version = 1

    def __init__(self, backend: FaceBackend) -> None:
        """Scores with the detector and the embedder of `backend`."""
        self._backend = backend
        self.needs = backend.needs()
        self.info = MetricInfo(
            name="facesim",
            protocol="strict",
            backend=backend.name,
            summary="similarity of the reference face and the most similar generated face",
            unit=backend.unit,
            higher_is_better=True,
            bounds=backend.bounds,
            axis="preservation",
            variants=("", "largest"),
            papers=("EditIDv2", "FlexID", "DynamicID"),
            comparable_to_published=False,
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Similarity of the best and of the largest face."""
        match = match_faces(observation, self._backend)
        return {"": match.best_similarity, "largest": match.largest_similarity}


def facesim_dlib() -> Metric:
    """FaceSim with dlib's descriptor, which needs no download."""
    return FaceSimStrict(DLIB)
