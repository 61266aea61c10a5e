"""Image tower of EVA02-CLIP-L-336, from which PuLID takes a class embedding and hidden states."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

HIDDEN_BLOCKS = (4, 8, 12, 16, 20)  # hidden states are the inputs of these blocks, 0-based


def rotary_table(grid: int, dim_head: int, pretrained_grid: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine tables of EVA02's 2-D rotary embedding, each [grid * grid, dim_head].

    Rows turn the first half of a head, columns the second; adjacent channels share an angle.
    Positions are scaled to the grid of the pretraining (16 for EVA02-CLIP-L).
    """
    half = dim_head // 2
    frequencies = 10000.0 ** (-torch.arange(0, half, 2, dtype=torch.float32) / half)
    positions = torch.arange(grid, dtype=torch.float32) * pretrained_grid / grid
    angles = torch.outer(positions, frequencies).repeat_interleave(2, dim=-1)
    rows = angles[:, None, :].expand(grid, grid, half)
    columns = angles[None, :, :].expand(grid, grid, half)
    table = torch.cat((rows, columns), dim=-1).reshape(grid * grid, dim_head)
    return table.cos(), table.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns patch tokens [..., 1 + patches, dim_head]; the class token comes first and stays."""
    class_token, patches = x[..., :1, :], x[..., 1:, :]
    even, odd = patches[..., ::2], patches[..., 1::2]
    turned = torch.stack((-odd, even), dim=-1).flatten(-2)
    return torch.cat((class_token, patches * cos + turned * sin), dim=-2)


class EVAAttention(nn.Module):
    """Self-attention with biases on query and value only and a norm before the projection."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        """Builds the layers; `eps` is that of the norms."""
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.inner_attn_ln = nn.LayerNorm(dim, eps=eps)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Update of the tokens [batch, 1 + patches, dim]."""
        query = functional.linear(x, self.q_proj.weight, self.q_bias)
        key = self.k_proj(x)
        value = functional.linear(x, self.v_proj.weight, self.v_bias)
        query, key, value = (
            rearrange(t, "b n (h d) -> b h n d", h=self.heads) for t in (query, key, value)
        )
        query = rotate(query, cos, sin).type_as(value)
        key = rotate(key, cos, sin).type_as(value)
        out = functional.scaled_dot_product_attention(query, key, value)
        update: Tensor = self.proj(self.inner_attn_ln(rearrange(out, "b h n d -> b n (h d)")))
        return update


class EVASwiGLU(nn.Module):
    """Gated MLP with a norm before its last layer."""

    def __init__(self, dim: int, width: int, eps: float) -> None:
        """Builds the layers; `width` is that of the hidden layer."""
        super().__init__()
        self.w1 = nn.Linear(dim, width)
        self.w2 = nn.Linear(dim, width)
        self.ffn_ln = nn.LayerNorm(width, eps=eps)
        self.w3 = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Update of the tokens [batch, tokens, dim]."""
        update: Tensor = self.w3(self.ffn_ln(functional.silu(self.w1(x)) * self.w2(x)))
        return update


class EVABlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, mlp_width: int, eps: float) -> None:
        """Builds the layers; `width` is that of the hidden layer."""
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = EVAAttention(dim, heads, eps)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = EVASwiGLU(dim, mlp_width, eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Tokens [batch, 1 + patches, dim] after this block."""
        x = x + self.attn(self.norm1(x), cos, sin)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchEmbed(nn.Module):
    """Patches of an image as tokens."""

    def __init__(self, dim: int, patch_size: int) -> None:
        """Builds the convolution; `patch_size` in pixels."""
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[batch, 3, side, side] to [batch, patches, dim]."""
        tokens: Tensor = rearrange(self.proj(pixel_values), "b d h w -> b (h w) d")
        return tokens


class EVATower(nn.Module):
    """Vision transformer of EVA02-CLIP; defaults and parameter names are those of L-336.

    Names are those of the released `EVA02_CLIP_L_336_psz14_s6B.pt` without its `visual.` prefix.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        *,
        image_size: int = 336,
        patch_size: int = 14,
        dim: int = 1024,
        depth: int = 24,
        heads: int = 16,
        mlp_width: int = 2730,
        output_dim: int = 768,
        pretrained_grid: int = 16,
        eps: float = 1e-6,
    ) -> None:
        """Builds the tower and its rotary tables, which are not parameters."""
        super().__init__()
        if depth <= HIDDEN_BLOCKS[-1]:
            raise ValueError(f"depth must exceed {HIDDEN_BLOCKS[-1]}, got {depth}")
        grid = image_size // patch_size
        self.image_size = image_size
        self.patch_embed = PatchEmbed(dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, grid * grid + 1, dim))
        self.blocks = nn.ModuleList(EVABlock(dim, heads, mlp_width, eps) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.head = nn.Linear(dim, output_dim)
        cos, sin = rotary_table(grid, dim // heads, pretrained_grid)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Class embedding and hidden states of normalised images.

        Args:
            pixel_values: [batch, 3, image_size, image_size].

        Returns:
            The projected class token [batch, output_dim], not normalised, and the five raw residual
            streams [batch, 1 + patches, dim] that enter blocks 4, 8, 12, 16 and 20.
        """
        x = self.patch_embed(pixel_values)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.pos_embed
        hidden = []
        for index, block in enumerate(self.blocks):
            if index in HIDDEN_BLOCKS:
                hidden.append(x)
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x)[:, 0]), hidden
