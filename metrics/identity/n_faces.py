"""How many faces a generated image has: what the strict face metrics choose from."""

from collections.abc import Mapping

from idbench.metrics.faces import eligible_faces
from idbench.metrics.protocol import MetricInfo, Missing, Observation, Role


class NFacesMTCNN:
    """Number of faces with score >= 0.5 and sides >= 24 pixels. Never missing: none is 0."""

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {"generated": ("mtcnn",)}
    info = MetricInfo(
        name="n_faces",
        protocol="strict",
        backend="mtcnn",
        summary="number of faces in the generated image",
        unit="faces",
        higher_is_better=None,
        bounds=(0.0, float("inf")),
        axis="quality",
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The count."""
        return {"": float(len(eligible_faces(observation.get("generated", "mtcnn"))))}
