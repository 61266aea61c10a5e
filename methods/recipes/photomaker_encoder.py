"""PhotoMaker v2's ID encoder: photos and face embeddings to tokens that join the class word.

Source: `PhotoMakerIDEncoder_CLIPInsightfaceExtendtoken` of TencentARC/PhotoMaker (model_v2.py,
commit 48ec26d), whose parameter names these are; Apache-2.0.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from idbench.methods.common.state_dicts import load_strictly
from idbench.methods.recipes.perceiver_resampler import PerceiverResampler, count_after

HEAD_WIDTH = 128  # of the perceiver
CLIP_HEAD_WIDTH = 64  # of ViT-L/14


class Projection(nn.Module):
    """Norm, two layers with exact GELU between them, and a residual where widths allow it."""

    def __init__(self, inputs: int, outputs: int, *, residual: bool) -> None:
        """Makes the layers; the hidden width is that of the outputs."""
        super().__init__()
        self.layernorm = nn.LayerNorm(inputs)
        self.fc1 = nn.Linear(inputs, outputs)
        self.fc2 = nn.Linear(outputs, outputs)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        y: Tensor = self.fc2(nn.functional.gelu(self.fc1(self.layernorm(x))))
        return x + y if self.residual else y


class FuseModule(nn.Module):
    """Joins tokens of the class word with those of the identity."""

    def __init__(self, width: int) -> None:
        """Makes the layers for tokens of this width."""
        super().__init__()
        self.mlp1 = Projection(2 * width, width, residual=False)
        self.mlp2 = Projection(width, width, residual=True)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, words: Tensor, identity: Tensor) -> Tensor:
        """(n, width) and (n, width) to (n, width)."""
        joined = self.mlp1(torch.cat([words, identity], dim=-1)) + words
        fused: Tensor = self.layer_norm(self.mlp2(joined))
        return fused


class QFormerPerceiver(nn.Module):
    """A face embedding to tokens, refined by the patches of its photo."""

    def __init__(
        self,
        face: int,
        hidden: int,
        tokens: int,
        width: int,
        patch_width: int,
        heads: int,
        depth: int,
    ) -> None:
        """Makes the layers; `hidden` is the width between the embedding and the tokens."""
        super().__init__()
        self.tokens, self.width = tokens, width
        self.token_proj = nn.Sequential(
            nn.Linear(face, hidden), nn.GELU(), nn.Linear(hidden, tokens * width)
        )
        self.token_norm = nn.LayerNorm(width)
        self.perceiver_resampler = PerceiverResampler(
            inputs=patch_width,
            width=width,
            outputs=width,
            heads=heads,
            head_width=HEAD_WIDTH,
            depth=depth,
        )

    def forward(self, face_embeds: Tensor, patches: Tensor) -> Tensor:
        """(n, face) and (n, patches, patch width) to (n, tokens, width)."""
        tokens = self.token_proj(face_embeds).unflatten(-1, (-1, self.width))
        tokens = self.token_norm(tokens)
        refined: Tensor = tokens + self.perceiver_resampler(tokens, patches)
        return refined


class IDEncoder(nn.Module):
    """The whole encoder; both projections of CLIP are in the file but unused in version 2."""

    qformer_perceiver: QFormerPerceiver

    def __init__(
        self, clip: CLIPVisionConfig, perceiver: QFormerPerceiver, second_projection: int
    ) -> None:
        """Makes CLIP's image half and the layers after it."""
        super().__init__()
        self.qformer_perceiver = perceiver
        vision = CLIPVisionModelWithProjection(clip)
        self.vision_model = vision.vision_model
        self.visual_projection = vision.visual_projection
        self.visual_projection_2 = nn.Linear(clip.hidden_size, second_projection, bias=False)
        self.fuse_module = FuseModule(perceiver.width)

    @property
    def image_side(self) -> int:
        """Of the pictures that CLIP looks at, in pixels."""
        return int(self.vision_model.embeddings.image_size)

    @property
    def tokens_per_reference(self) -> int:
        """How many tokens stand for one photo; 2 in the released file."""
        return self.qformer_perceiver.tokens

    def forward(
        self, pixel_values: Tensor, face_embeds: Tensor, prompt_embeds: Tensor, mask: Tensor
    ) -> Tensor:
        """Prompt embeddings in which the tokens of `mask` hold the stacked identity.

        Args:
            pixel_values: Photos as CLIP takes them, (n, 3, side, side).
            face_embeds: Of the same photos, as the recogniser gives them, (n, face).
            prompt_embeds: (1, length, width).
            mask: n times `tokens_per_reference` tokens of the prompt, (length,).
        """
        patches = self.vision_model(pixel_values)[0]
        identity = self.qformer_perceiver(face_embeds, patches).flatten(0, 1)
        stacked = prompt_embeds.clone()
        stacked[0, mask] = self.fuse_module(prompt_embeds[0, mask], identity)
        return stacked


def encoder_of(state: Mapping[str, Tensor], source: str | Path) -> IDEncoder:
    """The encoder of a file's `id_encoder`, its sizes those of the tensors.

    Raises:
        ValueError: If keys are missing or left over; `source` begins the message.
    """
    # Old versions of transformers stored the position indices, which are no weights.
    state = {key: value for key, value in state.items() if not key.endswith("position_ids")}
    try:
        encoder = _empty(state)
    except KeyError as error:
        raise ValueError(f"{source}: not an ID encoder of PhotoMaker v2; no {error}") from error
    load_strictly(encoder, state, source)
    return encoder.eval()


def _empty(state: Mapping[str, Tensor]) -> IDEncoder:
    patch = state["vision_model.embeddings.patch_embedding.weight"]
    places = state["vision_model.embeddings.position_embedding.weight"]
    hidden, patch_size = patch.shape[0], patch.shape[-1]
    clip = CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=state["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_attention_heads=hidden // CLIP_HEAD_WIDTH,
        num_hidden_layers=count_after(state, "vision_model.encoder.layers."),
        patch_size=patch_size,
        image_size=patch_size * round((places.shape[0] - 1) ** 0.5),
        projection_dim=state["visual_projection.weight"].shape[0],
    )
    name = "qformer_perceiver"
    first, last = (state[f"{name}.token_proj.{layer}.weight"] for layer in (0, 2))
    width = state[f"{name}.token_norm.weight"].shape[0]
    layers = f"{name}.perceiver_resampler.layers."
    perceiver = QFormerPerceiver(
        face=first.shape[1],
        hidden=first.shape[0],
        tokens=last.shape[0] // width,
        width=width,
        patch_width=state[f"{name}.perceiver_resampler.proj_in.weight"].shape[1],
        heads=state[f"{layers}0.0.to_q.weight"].shape[0] // HEAD_WIDTH,
        depth=count_after(state, layers),
    )
    return IDEncoder(clip, perceiver, state["visual_projection_2.weight"].shape[0])
