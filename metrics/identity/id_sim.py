"""ID-Sim: whether a restored or edited image still shows the person of the original."""

from collections.abc import Mapping

from idbench.metrics.face_backends import ANTELOPEV2, BUFFALO_L
from idbench.metrics.faces import FaceBackend, match_faces
from idbench.metrics.protocol import (
    Metric,
    MetricInfo,
    Missing,
    MissingValueError,
    Observation,
    Role,
)

# The threshold of EditedID's table 13, a convention of this project for its other tables.
SAME_PERSON = 0.70


class IDSim:
    """Cosine of the ArcFace embeddings of the original's largest face and the face most like it.

    ID-Sim of EditedID, which names no more than ArcFace. Variants: "" the cosine; `penalised` 0
    where the image shows no face, as the paper scores it; `rate_070` 1 if the cosine is at least
    0.70 and else 0, also without a face, so that its mean is the pass rate.

    Missing: `no_original`, `no_original_face`; `no_face` for the plain value only.
    """

    version = 1

    def __init__(self, backend: FaceBackend) -> None:
        """Compares with the networks of `backend`."""
        self._backend = backend
        self.needs: Mapping[Role, tuple[str, ...]] = {
            "original": (backend.detector,),
            "generated": (backend.detector,),
        }
        self.info = MetricInfo(
            name="id_sim",
            protocol="strict",
            backend=backend.name,
            summary="cosine of the faces of the original and of the restored image",
            unit="cosine",
            higher_is_better=True,
            bounds=(-1.0, 1.0),
            axis="preservation",
            variants=("", "penalised", "rate_070"),
            papers=("EditedID",),
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The cosine, and what it means for the pass rate."""
        try:
            match = match_faces(observation, self._backend, reference="original")
        except MissingValueError as error:
            if error.missing.reason != "no_face":
                raise
            return {"": error.missing, "penalised": 0.0, "rate_070": 0.0}
        value = match.best_similarity
        return {"": value, "penalised": value, "rate_070": float(value >= SAME_PERSON)}


def id_sim_antelopev2() -> Metric:
    """ID-Sim with ArcFace R100."""
    return IDSim(ANTELOPEV2)


def id_sim_buffalo_l() -> Metric:
    """ID-Sim with ArcFace R50."""
    return IDSim(BUFFALO_L)
