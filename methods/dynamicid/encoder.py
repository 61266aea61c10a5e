"""The face encoder: a picture of a person to identity tokens (section 3.1, figure 2)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionModel

from idbench.methods.dynamicid.config import DynamicIDConfig
from idbench.methods.dynamicid.crops import Window, clip_pixels, crop_face, crop_window, moved
from idbench.methods.dynamicid.faces import (
    Face,
    FaceAnalyser,
    FaceBox,
    NoFaceError,
    choose_face,
)
from idbench.methods.dynamicid.keypoints import FRAME_SIZE
from idbench.methods.dynamicid.projection import FaceProjection

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceFeatures:
    """What the frozen extractors see in one picture.

    `id_embeds` is (512,) of length 1 (0 where no face was found and that is allowed),
    `clip_hidden` (257, 1280), both float32 on the CPU. `picture` is what was looked at, `face` the
    face in it with its box in pixels of `picture` and its landmarks on a 512 x 512 frame.
    """

    id_embeds: Tensor
    clip_hidden: Tensor
    picture: Image.Image
    face: Face | None

    @property
    def score(self) -> float:
        """Detection score of the face, 0 without one."""
        return 0.0 if self.face is None else self.face.score


class FaceEncoder:
    """ArcFace and CLIP-ViT-H features, and their projection to identity tokens.

    `projection` stays in float32; it is small, and its tokens steer every layer.
    """

    def __init__(
        self,
        analyser: FaceAnalyser,
        clip_vision: CLIPVisionModel,
        projection: FaceProjection,
        config: DynamicIDConfig,
    ) -> None:
        """Keeps the networks; they are not moved."""
        self.analyser = analyser
        self.clip_vision = clip_vision
        self.projection = projection
        self.config = config
        self._unconditional: Tensor | None = None

    @torch.no_grad()
    def features(self, picture: Image.Image, face_box: FaceBox | None = None) -> FaceFeatures:
        """Features of one picture; `face_box` says which of several faces, in pixels.

        Raises:
            NoFaceError: If there is no face and `allow_missing_face` is off.
        """
        picture = picture.convert("RGB")
        try:
            found = choose_face(
                self.analyser(np.asarray(picture)), self.config.face_choice, face_box
            )
        except NoFaceError:
            if not self.config.allow_missing_face:
                raise NoFaceError(
                    f"no face was found in the reference of {picture.width} x {picture.height} "
                    "pixels; give a picture with a visible face or set allow_missing_face"
                ) from None
            zeros = torch.zeros(self.projection.config.id_embeddings_dim)
            return FaceFeatures(
                id_embeds=zeros, clip_hidden=self._clip(picture), picture=picture, face=None
            )
        if self.config.face_crop == "none":
            return self._of(picture, self._with_landmarks(picture, found))
        window = crop_window(found.box, self.config.face_crop_factor)
        picture = crop_face(picture, window)
        return self._of(picture, self._in_crop(picture, found, window))

    def _of(self, picture: Image.Image, face: Face) -> FaceFeatures:
        return FaceFeatures(
            id_embeds=torch.from_numpy(face.id_embedding.copy()),
            clip_hidden=self._clip(picture),
            picture=picture,
            face=face,
        )

    def _in_crop(self, crop: Image.Image, found: Face, window: Window) -> Face:
        """The face as the networks see it in its crop."""
        expected = moved(found, window)
        faces = self.analyser(np.asarray(crop))
        if not faces:
            log.warning("no face was found in the crop of a face; that of the picture is used")
            return expected
        return choose_face(faces, near=expected.box)

    def _with_landmarks(self, picture: Image.Image, found: Face) -> Face:
        """The face of a whole picture with landmarks on the 512 x 512 frame.

        The official code finds landmarks in the picture stretched to that size and embeds it as
        it is.
        """
        faces = self.analyser(
            np.asarray(picture.resize((FRAME_SIZE, FRAME_SIZE), Image.Resampling.BICUBIC))
        )
        scale = np.array([FRAME_SIZE / picture.width, FRAME_SIZE / picture.height], np.float32)
        if not faces:
            return replace(found, landmarks=found.landmarks * scale)
        x0, y0, x1, y1 = (np.reshape(found.box, (2, 2)) * scale).ravel().tolist()
        framed = choose_face(faces, self.config.face_choice, near=(x0, y0, x1, y1))
        return replace(found, landmarks=framed.landmarks)

    @torch.no_grad()
    def _clip(self, picture: Image.Image) -> Tensor:
        return self._clip_hidden(clip_pixels(picture, self._clip_size))

    @property
    def _clip_size(self) -> int:
        return int(self.clip_vision.config.image_size)

    def _clip_hidden(self, pixels: Tensor) -> Tensor:
        """Tokens of the last block but one, without the final norm, (tokens, width)."""
        pixels = pixels[None].to(self.clip_vision.device, self.clip_vision.dtype)
        hidden: Tensor = self.clip_vision(pixels, output_hidden_states=True).hidden_states[-2]
        return hidden[0].float().cpu()

    @torch.no_grad()
    def zero_clip_hidden(self) -> Tensor:
        """CLIP tokens of a pixel tensor of zeros, which stands for "no picture"."""
        return self._clip_hidden(torch.zeros(3, self._clip_size, self._clip_size))

    @torch.no_grad()
    def tokens(self, features: FaceFeatures) -> Tensor:
        """xi: identity tokens of one face, (1, 4, width), float32."""
        device = next(self.projection.parameters()).device
        tokens: Tensor = self.projection(
            features.id_embeds[None].to(device), features.clip_hidden[None].to(device)
        )
        return tokens

    def joined(self, features: Sequence[FaceFeatures]) -> FaceFeatures:
        """Several pictures of one person as one: `embed_mean` of `multi_reference`.

        The mean of the ArcFace vectors at length 1, with the rest of the picture whose face the
        detector is surest of.
        """
        best = max(features, key=lambda entry: entry.score)
        mean = torch.stack([entry.id_embeds for entry in features]).mean(dim=0)
        return FaceFeatures(
            id_embeds=mean / mean.norm().clamp_min(1e-12),
            clip_hidden=best.clip_hidden,
            picture=best.picture,
            face=best.face,
        )

    def unconditional_tokens(self) -> Tensor:
        """Tokens of no face, (1, 4, width): a zero vector and zero pixels, the same for all."""
        if self._unconditional is None:
            nobody = FaceFeatures(
                id_embeds=torch.zeros(self.projection.config.id_embeddings_dim),
                clip_hidden=self.zero_clip_hidden(),
                picture=Image.new("RGB", (1, 1)),
                face=None,
            )
            self._unconditional = self.tokens(nobody)
        return self._unconditional
