"""All faces of one or several images: found, associated, restored as one batch, put back.

The paper describes this as an external pipeline with an independent run per face (its appendix
A.16); here the faces share every pass through the network.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from idbench.methods.editedid.compositing import Inpainter, Patch, composite
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.faces import FaceDetector
from idbench.methods.editedid.jobs import Job
from idbench.methods.editedid.parsing import FaceParser
from idbench.methods.editedid.people import find_people
from idbench.methods.editedid.pipeline import EditedIDOutput, EditedIDPipeline
from idbench.methods.editedid.preparing import PreparedFace, elements_by_person, prepare_face
from idbench.methods.editedid.registration import RegistrationError
from idbench.methods.editedid.text import token_swap

# Edited image -> a sharper one, such as by DiffBIR.
Restorer = Callable[[Image.Image], Image.Image]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """An image ready to be restored; `skipped` says why some faces are not."""

    edited: Image.Image
    faces: tuple[PreparedFace, ...]
    skipped: tuple[str, ...]
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Restoration:
    """The result for one image.

    Attributes:
        image: RGB, of the edited image's size.
        faces: What was restored.
        crops: The restored crops, as `faces`.
        reconstructions: Original and edited crop as rebuilt, as `faces`; empty unless asked for.
        skipped: Why other faces were not restored.
    """

    image: Image.Image
    faces: tuple[PreparedFace, ...]
    crops: tuple[Image.Image, ...]
    reconstructions: tuple[tuple[Image.Image, Image.Image], ...]
    skipped: tuple[str, ...]


class MultiFaceEditedID:
    """Restores whole images.

    Args:
        pipeline: For registered crops.
        detector: Finds faces; None relies on the places that a job states.
        parser: Finds elements; None relies on masks, and takes an oval for "face".
        restorer: Applied to every edited image first; None for none.
        inpainter: Smooths the edges; None blends.
    """

    def __init__(
        self,
        pipeline: EditedIDPipeline,
        *,
        detector: FaceDetector | None = None,
        parser: FaceParser | None = None,
        restorer: Restorer | None = None,
        inpainter: Inpainter | None = None,
    ) -> None:
        """Keeps the parts."""
        self.pipeline = pipeline
        self.detector = detector
        self.parser = parser
        self.restorer = restorer
        self.inpainter = inpainter

    def restore(
        self,
        jobs: Sequence[Job],
        config: EditedIDConfig | None = None,
        *,
        reconstructions: bool = False,
    ) -> list[Restoration]:
        """Restores images, the faces of all of them as one batch.

        Raises:
            NoFaceError: If an image has no face to restore.
            RegistrationError: If no face of an image fits that of its original.
            MissingMaskError: If nothing says where an element is.
            PromptError: If elements and prompts do not belong together.
            FloatingPointError: If latents are no numbers.
        """
        config = config or EditedIDConfig()
        prepared = [self.prepare(job, config) for job in jobs]
        return self.run(prepared, config, reconstructions=reconstructions)

    def prepare(self, job: Job, config: EditedIDConfig) -> Prepared:
        """Finds, registers and crops the faces of one image.

        A face that does not fit its original is left as it is, with a warning, while another does.

        Raises:
            NoFaceError: As in `restore`, as for the others.
            RegistrationError: If no face fits.
            MissingMaskError: If nothing says where an element is.
            PromptError: If elements and prompts do not belong together.
        """
        edited = job.edited.convert("RGB")
        if self.restorer is not None:
            edited = self.restorer(edited).convert("RGB").resize(edited.size)
        found = find_people(job, edited, self.detector)
        people = found.people
        faces: list[PreparedFace] = []
        faults: list[RegistrationError] = []
        skipped = found.left_out.copy()
        for reason in skipped:
            _log.warning(reason)
        shares = elements_by_person(job, people, edited.size)
        for person, elements in zip(people, shares, strict=True):
            try:
                face = prepare_face(
                    job,
                    edited,
                    person,
                    elements,
                    resolution=self.pipeline.resolution,
                    parser=self.parser,
                    config=config,
                )
            except RegistrationError as error:
                faults.append(error)
                skipped.append(f"person {person.person}: {error}")
                _log.warning("person %d is not restored: %s", person.person, error)
            else:
                token_swap(self.pipeline.tokenizer, face.pair.prompts, config)  # refuses early
                faces.append(face)
        if not faces:
            raise faults[0]
        return Prepared(edited=edited, faces=tuple(faces), skipped=tuple(skipped), seed=job.seed)

    def run(
        self,
        prepared: Sequence[Prepared],
        config: EditedIDConfig,
        *,
        reconstructions: bool = False,
    ) -> list[Restoration]:
        """Restores prepared images; faces pass in batches of `max_faces_per_batch`."""
        pairs = [face.pair for image in prepared for face in image.faces]
        size = config.max_faces_per_batch
        outputs = [
            self.pipeline(pairs[start : start + size], config, reconstructions=reconstructions)
            for start in range(0, len(pairs), size)
        ]
        _report(outputs)
        crops = iter([image for output in outputs for image in output.images])
        rebuilt = iter([both for output in outputs for both in output.reconstructions])
        return [self._composited(image, crops, rebuilt) for image in prepared]

    def _composited(
        self,
        prepared: Prepared,
        crops: Iterator[Image.Image],
        rebuilt: Iterator[tuple[Image.Image, Image.Image]],
    ) -> Restoration:
        own = tuple(next(crops) for _ in prepared.faces)
        patches = [
            Patch(
                crop=face.crop,
                image=crop,
                mask=face.pair.mask_o | face.pair.mask_i,
                face_area=face.face_area,
            )
            for face, crop in zip(prepared.faces, own, strict=True)
        ]
        image = composite(prepared.edited, patches, inpainter=self.inpainter, seed=prepared.seed)
        pairs = [next(rebuilt, None) for _ in prepared.faces]
        return Restoration(
            image=image,
            faces=prepared.faces,
            crops=own,
            reconstructions=tuple(pair for pair in pairs if pair is not None),
            skipped=prepared.skipped,
        )


def _report(outputs: Sequence[EditedIDOutput]) -> None:
    for output in outputs:
        if output.null_text is not None:
            # A first step far above the others says that the mixing offsets are not absorbed.
            last = [f"{losses[-1].max():.2e}" for losses in output.null_text.losses]
            _log.info("largest null-text loss left after each step: %s", ", ".join(last))
    gone = sorted({size for output in outputs for size in output.entangled.vanished}, reverse=True)
    if gone:
        _log.warning(
            "a mask is empty at %s cells of attention; set mask_resize='area_any' to keep thin "
            "elements",
            ", ".join(f"{size}x{size}" for size in gone),
        )
