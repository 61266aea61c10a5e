"""The identity residual on the text tokens: what is added, and how large it is."""

from typing import Literal

import torch
from torch import Tensor

Delta = Literal["contrast", "toward", "literal"]
Norm = Literal["sample", "token", "none"]

EPS = 1e-12


def difference(kind: Delta, fused: Tensor, fused_null: Tensor | None, text: Tensor) -> Tensor:
    """The residual before it is scaled, in float32.

    Args:
        kind: "contrast" is F(f, E) - F(0, E): nothing without a face, and without the restyling of
            the text that any face brings. "toward" is F(f, E) - E, "literal" F(f, E) itself.
        fused: F(f, E), [batch, tokens, dim].
        fused_null: F(0, E); needed for "contrast".
        text: E.
    """
    if kind == "literal":
        return fused.float()
    if kind == "toward":
        return fused.float() - text.float()
    if fused_null is None:
        raise ValueError("delta='contrast' needs the text fused with a null face, got None")
    return fused.float() - fused_null.float()


def scaled(delta: Tensor, text: Tensor, norm: Norm, mask: Tensor | None = None) -> Tensor:
    """The residual at the size of the text, so that alpha is a relative strength; in float32.

    Args:
        delta: [batch, tokens, dim].
        text: E, of the same shape.
        norm: "sample" gives both the same Frobenius norm per sample, so |E' - E| / |E| is alpha;
            "token" the same per token; "none" leaves the size.
        mask: True where the residual acts, [batch, tokens]; the norms are over these tokens.
    """
    text = text.float()
    if mask is not None:
        keep = mask.unsqueeze(-1)
        delta, text = delta * keep, text * keep
    if norm == "none":
        return delta
    dims = (1, 2) if norm == "sample" else (2,)
    size: Tensor = torch.linalg.vector_norm(text, dim=dims, keepdim=True)
    own: Tensor = torch.linalg.vector_norm(delta, dim=dims, keepdim=True)
    return delta * (size / own.clamp_min(EPS))


def moved(text: Tensor, alpha: Tensor, delta: Tensor) -> Tensor:
    """E + alpha * delta of equation (1), in the dtype of E.

    Args:
        text: E, [batch, tokens, dim].
        alpha: One per sample, [batch].
        delta: From `scaled`.
    """
    factor = alpha.to(delta, non_blocking=True).reshape(-1, 1, 1)  # waits for no device
    return (text.float() + factor * delta).to(text.dtype)
