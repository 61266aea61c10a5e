"""From a reference photo to what the ID encoder reads (`PuLIDPipeline.get_id_embedding`)."""

from dataclasses import dataclass
from typing import Literal, cast

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import normalize, resize

from idbench.methods.pulid.eva import EVATower
from idbench.methods.pulid.faces import (
    Array,
    DetectedFace,
    FaceDetector,
    FaceParser,
    FaceRecogniser,
    ImageArray,
    NoFaceError,
    align_face,
    box_iou,
    central_face,
    largest_face,
)

FaceSelect = Literal["official", "largest"]

MAX_LONG_EDGE = 1024
MIN_MATCH_IOU = 0.3
# background, ears, earring, neck, necklace, cloth, hat; hair (17) and glasses (6) stay
BACKGROUND_CLASSES = (0, 7, 8, 9, 14, 15, 16, 18)
LUMA = (0.299, 0.587, 0.114)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class IDFeatures:
    """What is known of a face before the ID encoder.

    `arcface` is the raw embedding [512] and `id_cond` [1, 1280] joins it with the unit class
    embedding of the tower; `vit_hidden` are five hidden states [1, tokens, width]. `aligned` is the
    RGB crop and `whitened` [3, 512, 512] the grey face on white, kept for inspection. `fallback`
    tells that the recogniser's own detector found no face and the aligned crop was embedded.
    """

    id_cond: Tensor
    vit_hidden: list[Tensor]
    arcface: Array
    aligned: ImageArray
    whitened: Tensor
    fallback: bool


def limit_long_edge(image: ImageArray, limit: int = MAX_LONG_EDGE) -> ImageArray:
    """The image with its long edge at most `limit` (Lanczos); smaller ones are left alone."""
    height, width = image.shape[:2]
    if max(height, width) <= limit:
        return image
    scale = limit / max(height, width)
    size = (int(width * scale), int(height * scale))
    return cast(ImageArray, cv2.resize(image, size, interpolation=cv2.INTER_LANCZOS4))


def whiten(face: Tensor, labels: Tensor) -> Tensor:
    """The face in grey, white where the parser sees no face.

    Args:
        face: RGB in [0, 1], [batch, 3, h, w].
        labels: Classes, [batch, 1, h, w].
    """
    grey = (face * face.new_tensor(LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)
    background = torch.isin(labels, labels.new_tensor(BACKGROUND_CLASSES))
    return torch.where(background, torch.ones_like(grey), grey).expand_as(face)


def tower_input(whitened: Tensor, image_size: int, antialias: bool) -> Tensor:
    """Input of the vision tower: bicubic without clamping, then CLIP's mean and deviation.

    `antialias=True` is what torchvision from 0.17 does by default, False what the version pinned in
    PuLID's own requirements (0.15.2) did; the identity tokens differ.
    """
    resized = resize(
        whitened, [image_size, image_size], InterpolationMode.BICUBIC, antialias=antialias
    )
    return cast(Tensor, normalize(resized, list(CLIP_MEAN), list(CLIP_STD)))


def join_condition(arcface: Tensor, cls: Tensor) -> Tensor:
    """`id_cond`: raw ArcFace [batch, 512], then the class embedding [batch, 768] at unit norm.

    The two halves are on different scales on purpose: so were the encoder's training inputs.
    """
    return torch.cat((arcface, cls / cls.norm(p=2, dim=1, keepdim=True)), dim=1)


def without_identity(id_cond: Tensor, vit_hidden: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Inputs of the unconditional identity: zeros of the same shapes.

    They pass through the same encoder, so the unconditional tokens are not zero.
    """
    return torch.zeros_like(id_cond), [torch.zeros_like(hidden) for hidden in vit_hidden]


class IDExtractor:
    """Extracts identity features of one face from a photo.

    Args:
        recogniser: Detects and embeds (antelopev2).
        detector: Detects for alignment (facexlib RetinaFace).
        parser: Labels the aligned face (facexlib BiSeNet).
        tower: EVA02-CLIP image tower; its device and dtype are used.
        antialias: See `tower_input`.
        face_select: "official" embeds the largest face and aligns the one nearest the centre, which
            may be different people; "largest" aligns the face that was embedded.
    """

    def __init__(
        self,
        recogniser: FaceRecogniser,
        detector: FaceDetector,
        parser: FaceParser,
        tower: EVATower,
        *,
        antialias: bool = True,
        face_select: FaceSelect = "official",
    ) -> None:
        """Keeps the networks; nothing runs."""
        self.recogniser = recogniser
        self.detector = detector
        self.parser = parser
        self.tower = tower
        self.antialias = antialias
        self.face_select = face_select

    @torch.no_grad()
    def __call__(self, photo: Image.Image) -> IDFeatures:
        """Features of the face in a photo.

        Raises:
            NoFaceError: If no face can be aligned, or, with `face_select="largest"`, if the
                largest face has no counterpart among those that can be aligned.
        """
        rgb = limit_long_edge(np.asarray(photo.convert("RGB")))
        bgr = cast(ImageArray, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        faces = self.recogniser.detect(bgr)
        largest = faces[largest_face(faces)] if faces else None
        aligned = self.align(bgr, largest)
        if largest is not None:
            arcface = self.recogniser.embed(bgr, largest)
        else:
            arcface = self.recogniser.embed_crop(aligned)
        aligned_rgb = cast(ImageArray, cv2.cvtColor(aligned, cv2.COLOR_BGR2RGB))
        return self.features(arcface, aligned_rgb, fallback=largest is None)

    def features(self, arcface: Array, aligned: ImageArray, *, fallback: bool) -> IDFeatures:
        """Features from an embedding [512] and an aligned RGB crop [512, 512, 3]."""
        face = torch.from_numpy(aligned).permute(2, 0, 1).unsqueeze(0).float() / 255
        whitened = whiten(face, self.parser.labels(face).to(face.device))
        pixels = tower_input(whitened, self.tower.image_size, self.antialias)
        weight = self.tower.pos_embed
        cls, vit_hidden = self.tower(pixels.to(weight.device, weight.dtype))
        embedding = torch.from_numpy(np.asarray(arcface, np.float32)).unsqueeze(0).to(cls)
        return IDFeatures(
            join_condition(embedding, cls),
            vit_hidden,
            np.asarray(arcface, np.float32),
            aligned,
            whitened[0],
            fallback,
        )

    def align(self, bgr: ImageArray, largest: DetectedFace | None) -> ImageArray:
        """The aligned crop of a photo, both BGR; `largest` is the recogniser's largest face.

        Raises:
            NoFaceError: As a call.
        """
        return align_face(bgr, self._face_to_align(bgr, largest).landmarks)

    def _face_to_align(self, bgr: ImageArray, largest: DetectedFace | None) -> DetectedFace:
        candidates = self.detector.detect(bgr)
        if not candidates:
            raise NoFaceError("align", "no face found in the photo to align")
        if self.face_select == "official" or largest is None:
            return candidates[central_face(candidates, *bgr.shape[:2])]
        overlaps = [box_iou(face.box, largest.box) for face in candidates]
        best = int(np.argmax(overlaps))
        if overlaps[best] < MIN_MATCH_IOU:
            raise NoFaceError(
                "match",
                f"the largest face overlaps no face that can be aligned: best IoU "
                f"{overlaps[best]:.2f}, at least {MIN_MATCH_IOU} needed",
            )
        return candidates[best]
