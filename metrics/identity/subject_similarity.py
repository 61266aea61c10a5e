"""CLIP-I and DINO-I of FlexIP: how alike two subjects are, cut out of their backgrounds."""

from collections.abc import Mapping
from typing import Literal

from idbench.metrics.cosine import cosine
from idbench.metrics.protocol import Metric, MetricInfo, Missing, Observation, Role


class SubjectSimilarity:
    """Cosine of the embeddings of the subjects of reference and generated image, on white.

    Where a subject is not found the whole image is compared, as FlexIP's specification has it.
    Variants: "" the cosine; `unsegmented` 1 if either subject was not found and else 0, so that its
    mean is the share of fallbacks.

    Missing: `no_subject` where the case has no word for the subject; with masks of the user's
    (`idbench data masks`), `no_mask` where one of the images has none.
    """

    version = 1

    def __init__(
        self, name: str, backend: str, network: Literal["clip", "dino"], *, masks: bool = False
    ) -> None:
        """Compares the embeddings of one network; `masks` takes the user's masks."""
        self._network = network
        self._extractor = "subject.masks" if masks else "subject"
        self.needs: Mapping[Role, tuple[str, ...]] = {
            "reference": (self._extractor,),
            "generated": (self._extractor,),
        }
        self.info = MetricInfo(
            name=name,
            protocol="strict",
            backend=backend,
            summary="cosine of the subjects of reference and generated image, on white",
            unit="cosine",
            higher_is_better=True,
            bounds=(-1.0, 1.0),
            axis="preservation",
            variants=("",) if masks else ("", "unsegmented"),
            papers=("FlexIP",),
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The cosine, and whether it is of whole images."""
        reference = observation.get("reference", self._extractor)
        generated = observation.get("generated", self._extractor)
        values = {"": cosine(reference[self._network], generated[self._network])}
        if "unsegmented" in self.info.variants:
            found = bool(reference["found"]) and bool(generated["found"])
            values["unsegmented"] = float(not found)
        return values


def clip_i_vs_ref_masked() -> Metric:
    """CLIP-I of FlexIP, with DreamBench++'s ViT-B/32."""
    return SubjectSimilarity("clip_i.vs_ref_masked", "clip-b32", "clip")


def dino_masked() -> Metric:
    """DINO-I of FlexIP, with DreamBench++'s ViT-S/8."""
    return SubjectSimilarity("dino_masked", "dino-vits8", "dino")


def clip_i_vs_ref_masks() -> Metric:
    """CLIP-I of FlexIP on masks of the user's."""
    return SubjectSimilarity("clip_i.vs_ref_masked", "clip-b32-masks", "clip", masks=True)


def dino_masks() -> Metric:
    """DINO-I of FlexIP on masks of the user's."""
    return SubjectSimilarity("dino_masked", "dino-vits8-masks", "dino", masks=True)
