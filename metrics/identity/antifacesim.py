"""AntiFaceSim: how much the face made without the identity looks like the reference."""

from collections.abc import Mapping

from idbench.metrics.cosine import cosine
from idbench.metrics.face_backends import ANTELOPEV2
from idbench.metrics.faces import match_faces
from idbench.metrics.identity.facesim import first_embedding
from idbench.metrics.protocol import MetricInfo, Missing, Observation, Role

_NEEDS: Mapping[Role, tuple[str, ...]] = {
    "reference": (ANTELOPEV2.detector,),
    "base": (ANTELOPEV2.detector,),
}


class AntiFaceSimIBench:
    """FaceSim of the image of the base model: the similarity that chance and prompt give.

    AntiFaceSim of IBench; the first face of each image counts, as in its FaceSim.

    Missing: `no_base`, `no_reference_face`, `no_base_face`.
    """

    version = 1
    needs = _NEEDS
    info = MetricInfo(
        name="antifacesim",
        protocol="ibench",
        backend=ANTELOPEV2.name,
        summary="cosine of the reference and the face made without identity, first faces",
        unit="cosine",
        higher_is_better=None,
        bounds=(-1.0, 1.0),
        axis="preservation",
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Cosine of the two first faces."""
        reference = first_embedding(observation, "reference", ANTELOPEV2)
        return {"": cosine(reference, first_embedding(observation, "base", ANTELOPEV2))}


class AntiFaceSimStrict:
    """As `AntiFaceSimIBench`, with the face of the base image that is most like the reference.

    Missing: `no_base`, `no_reference_face`, `no_base_face`, `several_people`.
    """

    version = 1
    needs = _NEEDS
    info = MetricInfo(
        name="antifacesim",
        protocol="strict",
        backend=ANTELOPEV2.name,
        summary="similarity of the reference and the most similar face made without identity",
        unit="cosine",
        higher_is_better=None,
        bounds=(-1.0, 1.0),
        axis="preservation",
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Similarity of the best face of the base image."""
        return {"": match_faces(observation, ANTELOPEV2, generated="base").best_similarity}


class FaceSimGain:
    """FaceSim minus AntiFaceSim: what the method adds to the similarity that is there anyway.

    In [-2, 2].

    Missing: `no_base`, `no_reference_face`, `no_face`, `no_base_face`, `several_people`.
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {**_NEEDS, "generated": (ANTELOPEV2.detector,)}
    info = MetricInfo(
        name="facesim_gain",
        protocol="strict",
        backend=ANTELOPEV2.name,
        summary="FaceSim minus AntiFaceSim: the identity that the method adds",
        unit="cosine difference",
        higher_is_better=True,
        bounds=(-2.0, 2.0),
        axis="preservation",
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Difference of the two similarities."""
        with_identity = match_faces(observation, ANTELOPEV2).best_similarity
        without = match_faces(observation, ANTELOPEV2, generated="base").best_similarity
        return {"": with_identity - without}
