"""The face networks that need a download, as backends of the face metrics."""

from idbench.metrics.cosine import cosines
from idbench.metrics.faces import FaceBackend


def _insightface(pack: str) -> FaceBackend:
    return FaceBackend(
        name=pack,
        detector=pack,
        embedder=pack,
        embedding="embeddings",
        similarity=cosines,
        bounds=(-1.0, 1.0),
        unit="cosine",
    )


ANTELOPEV2 = _insightface("antelopev2")
BUFFALO_L = _insightface("buffalo_l")

FACENET = FaceBackend(
    name="facenet",
    detector="mtcnn",
    embedder="facenet.mtcnn.box",
    embedding="output",
    similarity=cosines,
    bounds=(-1.0, 1.0),
    unit="cosine",
)
