"""Pictures of a subject to features: CLIP's class token and DINOv2's patches."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionModelWithProjection, Dinov2Model

from idbench.methods.flexip.adapter import ClassToken, Retrieval
from idbench.methods.flexip.preprocessing import clip_input, dino_input, on_white_square


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One or several pictures of one subject.

    `masks`, if given, has one entry per picture: mode "L" of the picture's size, 255 where the
    subject is, or None. What is outside becomes white.
    """

    pictures: tuple[Image.Image, ...]
    masks: tuple[Image.Image | None, ...] = ()

    def __post_init__(self) -> None:
        """Checks that pictures and masks belong together.

        Raises:
            ValueError: If there is no picture, or masks do not fit.
        """
        if not self.pictures:
            raise ValueError("a subject needs at least one picture")
        if self.masks and len(self.masks) != len(self.pictures):
            raise ValueError(
                f"{len(self.pictures)} pictures and {len(self.masks)} masks; give one mask per "
                "picture, None where there is none"
            )
        for picture, mask in zip(self.pictures, self.masks, strict=False):
            if mask is not None and mask.size != picture.size:
                raise ValueError(
                    f"a mask of {mask.width} x {mask.height} pixels for a picture of "
                    f"{picture.width} x {picture.height}; they must be of one size"
                )

    def squares(self) -> list[Image.Image]:
        """The pictures on white squares, their subject whole."""
        masks = self.masks or (None,) * len(self.pictures)
        return [
            on_white_square(picture, mask)
            for picture, mask in zip(self.pictures, masks, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Features:
    """What the frozen encoders see, in float32.

    `class_tokens` is (batch, references, class width), `patches` (batch, tokens, patch width),
    those of all references one after the other.
    """

    class_tokens: Tensor
    patches: Tensor

    def null(self) -> "Features":
        """Zeros of the same shape, which stand for "no image"."""
        return Features(torch.zeros_like(self.class_tokens), torch.zeros_like(self.patches))

    def dropped(self, drop: Tensor) -> "Features":
        """With zeros where `drop`, (batch,) bool, is true."""
        keep = (~drop)[:, None, None]
        return Features(self.class_tokens * keep, self.patches * keep)


class ReferenceEncoder:
    """CLIP ViT-H/14 for class tokens, and DINOv2-L (or CLIP again) for patches; both frozen."""

    def __init__(
        self,
        clip: CLIPVisionModelWithProjection,
        dino: Dinov2Model | None,
        *,
        clip_cls: ClassToken = "projected",
        retrieval: Retrieval = "dino",
        image_size: int = 224,
        dino_size: int = 224,
    ) -> None:
        """Keeps the networks; they are not moved.

        Raises:
            ValueError: If patches are to come from DINOv2 and there is none, or a size is not a
                multiple of the network's patches.
        """
        if retrieval == "dino" and dino is None:
            raise ValueError("retrieval='dino' needs DINOv2; load it, or retrieve from 'clip'")
        self.clip, self.dino = clip, dino
        self.clip_cls, self.retrieval = clip_cls, retrieval
        self.image_size, self.dino_size = image_size, dino_size
        if clip.config.image_size != image_size:
            raise ValueError(
                f"image_size must be {clip.config.image_size}, the only size of this CLIP, got "
                f"{image_size}"
            )
        if dino is not None and dino_size % dino.config.patch_size:
            raise ValueError(
                f"dino_size must be a multiple of {dino.config.patch_size}, got {dino_size}"
            )

    @property
    def class_dim(self) -> int:
        """Width of class tokens."""
        config = self.clip.config
        return int(config.projection_dim if self.clip_cls == "projected" else config.hidden_size)

    @property
    def patch_dim(self) -> int:
        """Width of patches."""
        if self.retrieval == "clip" or self.dino is None:
            return int(self.clip.config.hidden_size)
        return int(self.dino.config.hidden_size)

    def __call__(self, subject: Subject) -> Features:
        """Features of one subject, a batch of one."""
        squares = subject.squares()
        # One picture at a time: what the networks see must not depend on its neighbours.
        found = [
            self.encode(
                clip_input(square, self.image_size)[None],
                dino_input(square, self.dino_size)[None],
            )
            for square in squares
        ]
        return Features(
            torch.cat([one.class_tokens for one in found], dim=1),
            torch.cat([one.patches for one in found], dim=1),
        )

    @torch.no_grad()
    def encode(self, clip_pixels: Tensor, dino_pixels: Tensor) -> Features:
        """Features of a batch of single references.

        `clip_pixels` is (batch, 3, image_size, image_size), `dino_pixels` (batch, 3, dino_size,
        dino_size); the latter is not read where patches come from CLIP.
        """
        dino = self.dino if self.retrieval == "dino" else None
        seen = self.clip(
            clip_pixels.to(self.clip.device, self.clip.dtype), output_hidden_states=dino is None
        )
        # The class token after the last norm: that is what the projection takes.
        token = (
            seen.image_embeds
            if self.clip_cls == "projected"
            else self.clip.vision_model.post_layernorm(seen.last_hidden_state[:, 0])
        )
        if dino is None:
            # The last block but one, as IP-Adapter-Plus takes it.
            patches = seen.hidden_states[-2][:, 1:]
        else:
            pixels = dino_pixels.to(dino.device, dino.dtype)
            patches = dino(pixels).last_hidden_state[:, 1:]
        return Features(token[:, None].float(), patches.float())
