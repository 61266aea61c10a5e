"""BLIP's image-grounded text encoder: a BERT whose layers also attend to image tokens.

Li et al. (arXiv 2201.12086), `med.py`; the keys are those of its checkpoints.
"""

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-12
MAX_POSITIONS = 512


class _Projections(nn.Module):
    """Query, key and value, under BERT's name `self`."""

    def __init__(self, width: int, context_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(context_width, width)
        self.value = nn.Linear(context_width, width)


class _Residual(nn.Module):
    """Projection, residual and norm, under BERT's name `output`."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, inner: Tensor, residual: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dense(inner) + residual)
        return normed


class _Attention(nn.Module):
    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.add_module("self", _Projections(width, context_width))
        self.output = _Residual(width, width)
        self.heads = heads

    def forward(self, x: Tensor, context: Tensor, visible: Tensor | None = None) -> Tensor:
        project = cast("_Projections", self.get_submodule("self"))
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (project.query(x), project.key(context), project.value(context))
        )
        mask = visible[:, None, None, :] if visible is not None else None
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        result: Tensor = self.output(attended.transpose(1, 2).flatten(2), x)
        return result


class _Intermediate(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)


class _Layer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int, image_width: int) -> None:
        super().__init__()
        self.attention = _Attention(width, width, heads)
        self.crossattention = _Attention(width, image_width, heads)
        self.intermediate = _Intermediate(width, inner)
        self.output = _Residual(inner, width)

    def forward(self, x: Tensor, visible: Tensor, image_tokens: Tensor) -> Tensor:
        x = self.attention(x, x, visible)
        x = self.crossattention(x, image_tokens)
        result: Tensor = self.output(F.gelu(self.intermediate.dense(x)), x)
        return result


class _Embeddings(nn.Module):
    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width)
        self.position_embeddings = nn.Embedding(MAX_POSITIONS, width)
        self.LayerNorm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        embedded: Tensor = self.LayerNorm(
            self.word_embeddings(ids) + self.position_embeddings(positions)
        )
        return embedded


class _Encoder(nn.Module):
    def __init__(self, layers: int, width: int, inner: int, heads: int, image_width: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(width, inner, heads, image_width) for _ in range(layers))


class BlipTextEncoder(nn.Module):
    """Text tokens that have seen the image.

    Args:
        vocabulary: Rows of the word embedding.
        width: Width of the text tokens.
        inner: Width inside the feed-forward layers.
        layers: Number of layers.
        heads: Attention heads.
        image_width: Width of the image tokens.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int,
        inner: int,
        layers: int,
        heads: int,
        image_width: int,
    ) -> None:
        """Builds the network with random weights."""
        super().__init__()
        self.embeddings = _Embeddings(vocabulary, width)
        self.encoder = _Encoder(layers, width, inner, heads, image_width)

    def forward(self, ids: Tensor, visible: Tensor, image_tokens: Tensor) -> Tensor:
        """Tokens `batch text width` after the last layer.

        Args:
            ids: Token ids, `batch text`.
            visible: True where a token is not padding, `batch text`.
            image_tokens: `batch image image_width`.
        """
        x = self.embeddings(ids)
        for layer in self.encoder.layer:
            x = layer(x, visible, image_tokens)
        tokens: Tensor = x
        return tokens
