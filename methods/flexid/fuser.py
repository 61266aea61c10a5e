"""Text-face fuser of FaceCLIP for FLUX (bytedance/FaceCLIP, core/face_t5/transformer)."""

from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import linear, relu


class BiAttention(nn.Module):
    """One table of scores between face and text, read by rows and by columns."""

    def __init__(self, dim: int, embed_dim: int, heads: int) -> None:
        """Builds the layers."""
        super().__init__()
        self.heads = heads
        self.v_proj = nn.Linear(dim, embed_dim)
        self.l_proj = nn.Linear(dim, embed_dim)
        self.values_v_proj = nn.Linear(dim, embed_dim)
        self.values_l_proj = nn.Linear(dim, embed_dim)
        self.out_v_proj = nn.Linear(embed_dim, dim)
        self.out_l_proj = nn.Linear(embed_dim, dim)

    def forward(self, face: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Updates of face [batch, n, dim] and text [batch, m, dim]."""

        def split(x: Tensor) -> Tensor:
            return rearrange(x, "b n (h d) -> b h n d", h=self.heads)

        query, key = split(self.v_proj(face)), split(self.l_proj(text))
        # The official code subtracts the largest score and clamps at 50000, which a softmax in
        # exact arithmetic does not notice; in float32 the scores need neither.
        scores = (query * query.shape[-1] ** -0.5 @ key.mT).float()
        to_text = scores.softmax(dim=-1).to(face.dtype)
        to_face = scores.mT.softmax(dim=-1).to(face.dtype)
        from_text = to_text @ split(self.values_l_proj(text))
        from_face = to_face @ split(self.values_v_proj(face))
        return (
            self.out_v_proj(rearrange(from_text, "b h n d -> b n (h d)")),
            self.out_l_proj(rearrange(from_face, "b h n d -> b n (h d)")),
        )


class FusionLayer(nn.Module):
    """Exchange between face and text; the normalised tensors replace both streams."""

    def __init__(self, dim: int, embed_dim: int, heads: int) -> None:
        """Builds the layers."""
        super().__init__()
        self.layer_norm_v = nn.LayerNorm(dim)
        self.layer_norm_l = nn.LayerNorm(dim)
        self.attn = BiAttention(dim, embed_dim, heads)
        self.gamma_v = nn.Parameter(torch.full((dim,), 1e-4))
        self.gamma_l = nn.Parameter(torch.full((dim,), 1e-4))

    def forward(self, face: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """New face [batch, n, dim] and text [batch, m, dim]."""
        face, text = self.layer_norm_v(face), self.layer_norm_l(text)
        face_update, text_update = self.attn(face, text)
        return face + self.gamma_v * face_update, text + self.gamma_l * text_update


class EncoderLayer(nn.Module):
    """Post-norm encoder layer with ReLU; what text and face layers share."""

    def __init__(self, dim: int, heads: int, width: int) -> None:
        """Builds the layers."""
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.linear1 = nn.Linear(dim, width)
        self.linear2 = nn.Linear(width, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Both residuals, each with its norm behind."""
        x = self.norm1(x + attended)
        out: Tensor = self.norm2(x + self.linear2(relu(self.linear1(x))))
        return out


class TextLayer(EncoderLayer):
    """Self-attention of the text, padding included."""

    def forward(self, text: Tensor, positions: Tensor) -> Tensor:
        """[batch, m, dim] with positions [1, m, dim] to the same shape."""
        placed = text + positions
        attended, _ = self.self_attn(placed, placed, text, need_weights=False)
        return self.finish(text, attended)


class FaceLayer(EncoderLayer):
    """The face's layer as it is for one image.

    The official code hands a batch-first tensor to a sequence-first attention, so it attends over
    the batch. For one image the weight is 1 and only the values are left; that is computed here
    for every image by itself, or the identities of a batch would leak into each other.
    """

    def forward(self, face: Tensor) -> Tensor:
        """[batch, n, dim] to the same shape."""
        attention = self.self_attn
        value_weight = attention.in_proj_weight.chunk(3)[2]
        value_bias = attention.in_proj_bias.chunk(3)[2]
        return self.finish(face, attention.out_proj(linear(face, value_weight, value_bias)))


class FuserEncoder(nn.Module):
    """All layers. The last face layer is left out: no text token depends on it."""

    def __init__(self, dim: int, depth: int, heads: int, fusion_dim: int, widths: tuple[int, int]):
        """Builds the layers; `widths` are the hidden widths of text and face layers."""
        super().__init__()
        half = heads // 2
        self.fusion_layers = nn.ModuleList(FusionLayer(dim, fusion_dim, half) for _ in range(depth))
        self.text_layers = nn.ModuleList(TextLayer(dim, half, widths[0]) for _ in range(depth))
        self.layers = nn.ModuleList(FaceLayer(dim, heads, widths[1]) for _ in range(depth - 1))

    def forward(self, text: Tensor, text_positions: Tensor, face: Tensor) -> Tensor:
        """Fused text [batch, m, dim]."""
        for index, fusion in enumerate(self.fusion_layers):
            face, text = fusion(face, text)
            text = cast(TextLayer, self.text_layers[index])(text, text_positions)
            if index < len(self.layers):
                face = cast(FaceLayer, self.layers[index])(face)
        return text


class TextFaceFuser(nn.Module):
    """Text with a face in it: a replacement of the text tokens, not a residual.

    Names are those of `fuser.*` in the released file; defaults are its sizes.
    """

    def __init__(
        self,
        *,
        dim: int = 4096,
        depth: int = 6,
        heads: int = 8,
        fusion_dim: int = 1024,
        text_width: int = 1024,
        face_width: int = 2048,
    ) -> None:
        """Builds the layers."""
        super().__init__()
        self.encoder = FuserEncoder(dim, depth, heads, fusion_dim, (text_width, face_width))

    def forward(self, text: Tensor, text_positions: Tensor, face: Tensor) -> Tensor:
        """Fused text [batch, m, dim] of text, its positions [1, m, dim] and face [batch, n, dim].

        Every sample by itself, whatever the batch.
        """
        out: Tensor = self.encoder(text, text_positions, face)
        return out
