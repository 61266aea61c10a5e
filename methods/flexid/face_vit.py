"""Vision tower of FaceCLIP (bytedance/FaceCLIP, core/face_t5/face_vit/vit.py)."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

IMAGE_SIZE = 112
PATCH_SIZE = 9


class Attention(nn.Module):
    """Self-attention whose joint projection has no bias."""

    def __init__(self, dim: int, heads: int) -> None:
        """Builds the layers."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, n, dim] to the same shape."""
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        out = rearrange(scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        projected: Tensor = self.proj(out)
        return projected


class MLP(nn.Module):
    """Two layers with ReLU6 between."""

    def __init__(self, dim: int, width: int) -> None:
        """Builds the layers."""
        super().__init__()
        self.fc1 = nn.Linear(dim, width)
        self.act = nn.ReLU6()
        self.fc2 = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, n, dim] to the same shape."""
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, mlp_width: int) -> None:
        """Builds the layers."""
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, n, dim] to the same shape."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchEmbed(nn.Module):
    """One token per patch."""

    def __init__(self, dim: int, patch_size: int) -> None:
        """Builds the layer."""
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, 3, h, w] to [batch, patches, dim], row by row."""
        out: Tensor = rearrange(self.proj(pixels), "b d h w -> b (h w) d")
        return out


class FaceViT(nn.Module):
    """Patch tokens of an aligned face.

    Names are those of `face_encoder.*`; the head of the class token, which no text token depends
    on, is left out. Defaults are those of the released file: 144 tokens of width 768.
    """

    def __init__(
        self, *, dim: int = 768, depth: int = 24, heads: int = 8, mlp_width: int = 3072
    ) -> None:
        """Builds the layers."""
        super().__init__()
        patches = (IMAGE_SIZE // PATCH_SIZE) ** 2
        self.patch_embed = PatchEmbed(dim, PATCH_SIZE)
        self.pos_embed = nn.Parameter(torch.zeros(1, patches, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_width) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens [batch, 144, dim] of RGB faces [batch, 3, h, w] in [0, 1].

        Resized to 112 px bilinearly, without mean and deviation, as the official code does.
        """
        size = (IMAGE_SIZE, IMAGE_SIZE)
        pixels = interpolate(images, size=size, mode="bilinear", align_corners=False)
        x = self.patch_embed(pixels) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out
