"""How alike two images are to a network: CLIP-I, DINO, FGIS and DreamSim.

Metrics of one name compare different pairs of images in different papers, with different networks;
the name says the pair and the backend the network.
"""

from collections.abc import Mapping
from typing import Literal

from idbench.metrics.cosine import cosine
from idbench.metrics.face_backends import ANTELOPEV2
from idbench.metrics.faces import match_faces
from idbench.metrics.protocol import (
    Metric,
    MetricInfo,
    Missing,
    Observation,
    Role,
)

Protocol = Literal["ibench", "strict"]
Axis = Literal["preservation", "editability"]


class ImageSimilarity:
    """Cosine of the embeddings of the generated image and of another one.

    Args:
        name: Name of the metric.
        protocol: `ibench` or `strict`.
        backend: Name of the network in the column.
        extractor: Extractor with the embedding `output` of a whole image.
        other: Role of the other image.
        summary: One line.
        axis: Which side of the trade-off it is on.
        papers: Papers that print it.
    """

    version = 1

    def __init__(
        self,
        *,
        name: str,
        protocol: Protocol,
        backend: str,
        extractor: str,
        other: Role,
        summary: str,
        axis: Axis = "preservation",
        papers: tuple[str, ...] = (),
    ) -> None:
        """Keeps the arguments."""
        self._extractor = extractor
        self._other = other
        self.needs: Mapping[Role, tuple[str, ...]] = {
            other: (extractor,),
            "generated": (extractor,),
        }
        self.info = MetricInfo(
            name=name,
            protocol=protocol,
            backend=backend,
            summary=summary,
            unit="cosine",
            higher_is_better=True,
            bounds=(-1.0, 1.0),
            axis=axis,
            papers=papers,
            comparable_to_published=bool(papers),
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The cosine."""
        other = observation.get(self._other, self._extractor)["output"]
        return {"": cosine(other, observation.get("generated", self._extractor)["output"])}


def clip_i_vs_base_ibench() -> Metric:
    """CLIP-I of IBench: with identity against without, not a similarity to the reference."""
    return ImageSimilarity(
        name="clip_i.vs_base",
        protocol="ibench",
        backend="clip-l14",
        extractor="clip_l14.image.ibench",
        other="base",
        summary="CLIP cosine of the images made with and without the identity",
        axis="editability",
        papers=("EditIDv2", "FlexID"),
    )


def clip_i_vs_base_strict() -> Metric:
    """As IBench's, with CLIP's own preprocessing."""
    return ImageSimilarity(
        name="clip_i.vs_base",
        protocol="strict",
        backend="clip-l14",
        extractor="clip_l14.image",
        other="base",
        summary="CLIP cosine of the images made with and without the identity",
        axis="editability",
    )


def clip_i_vs_ref() -> Metric:
    """CLIP-I of DreamBench++, whole images; its code multiplies by 100."""
    return ImageSimilarity(
        name="clip_i.vs_ref",
        protocol="strict",
        backend="clip-b32",
        extractor="clip_b32.image",
        other="reference",
        summary="CLIP cosine of the generated image and the reference, whole images",
        papers=("DreamBench++",),
    )


def clip_i_vs_gt() -> Metric:
    """CLIP-I of MultiID-Bench: against another photograph that the prompt describes."""
    return ImageSimilarity(
        name="clip_i.vs_gt",
        protocol="strict",
        backend="clip-b16",
        extractor="clip_b16.image",
        other="ground_truth",
        summary="CLIP cosine of the generated image and the ground truth",
        papers=("MultiID-Bench",),
    )


def dino_ibench() -> Metric:
    """Dino of IBench: whole images, the reference against the generated one."""
    return ImageSimilarity(
        name="dino",
        protocol="ibench",
        backend="dinov2-base",
        extractor="dinov2_base.image",
        other="reference",
        summary="DINOv2 cosine of the generated image and the reference, whole images",
        papers=("EditIDv2",),
    )


def dino_vits16() -> Metric:
    """DINO-I of DreamBooth."""
    return _dino("dino-vits16", "dino_vits16.image", ("FlexIP",))


def dino_vits8() -> Metric:
    """DINO of DreamBench++, first version."""
    return _dino("dino-vits8", "dino_vits8.image", ("DreamBench++", "FlexIP"))


def dinov2_small() -> Metric:
    """DINO of DreamBench++, second version."""
    return _dino("dinov2-small", "dinov2_small.image", ("DreamBench++", "FlexIP"))


def _dino(backend: str, extractor: str, papers: tuple[str, ...]) -> Metric:
    return ImageSimilarity(
        name="dino",
        protocol="strict",
        backend=backend,
        extractor=extractor,
        other="reference",
        summary="DINO cosine of the generated image and the reference, whole images",
        papers=papers,
    )


class FgisIBench:
    """FGIS of IBench: DINOv2 cosine of the face crops of reference and generated image.

    The crop is 30 pixels around the first detection of MTCNN's R-Net stage, and the whole image
    where there is none: never missing for want of a face.
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {
        "reference": ("dinov2_base.ibench",),
        "generated": ("dinov2_base.ibench",),
    }
    info = MetricInfo(
        name="fgis",
        protocol="ibench",
        backend="dinov2-base",
        summary="DINOv2 cosine of the face crops, whole image where no face is found",
        unit="cosine",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        axis="preservation",
        papers=("EditIDv2",),
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The cosine."""
        name = self.needs["generated"][0]
        reference = observation.get("reference", name)["output"][0]
        return {"": cosine(reference, observation.get("generated", name)["output"][0])}


class FgisStrict:
    """DINOv2 cosine of the crops of the faces that FaceSim compares.

    The crop has a margin of a quarter of the face on each side.

    Missing: `no_reference_face`, `no_face`, `several_people`.
    """

    version = 1
    needs = ANTELOPEV2.needs("dinov2_base.antelopev2")
    info = MetricInfo(
        name="fgis",
        protocol="strict",
        backend="dinov2-base",
        summary="DINOv2 cosine of the crops of the matched faces",
        unit="cosine",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        axis="preservation",
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The cosine."""
        match = match_faces(observation, ANTELOPEV2)
        name = "dinov2_base.antelopev2"
        reference = observation.get("reference", name)["output"][match.reference]
        return {"": cosine(reference, observation.get("generated", name)["output"][match.best])}


class DreamSimDistance:
    """1 - cosine of the DreamSim embeddings of reference and generated image, in [0, 2].

    IBench has a class for it that cannot run, so nothing is published to compare with.
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {
        "reference": ("dreamsim",),
        "generated": ("dreamsim",),
    }
    info = MetricInfo(
        name="dreamsim",
        protocol="strict",
        backend="ensemble",
        summary="perceptual distance of the generated image and the reference",
        unit="1 - cosine",
        higher_is_better=False,
        bounds=(0.0, 2.0),
        axis="preservation",
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The distance."""
        reference = observation.get("reference", "dreamsim")["output"]
        return {"": 1 - cosine(reference, observation.get("generated", "dreamsim")["output"])}
