"""The two adapters: what to preserve (equation 2) and how to edit (equation 3)."""

import torch
from torch import Tensor, nn

from idbench.methods.flexip.resampler import Resampler, ResamplerConfig


class PreservationAdapter(nn.Module):
    """Learnable queries and CLIP class tokens, each resampled against the reference's patches.

    P = Resampler_L(Z_L, Z_D) (+) Resampler_C(W_c Z_C, Z_D); the two resamplers are independent.
    """

    def __init__(
        self,
        *,
        dim: int = 768,
        output_dim: int = 768,
        class_dim: int = 1024,
        patch_dim: int = 1024,
        num_learnable: int = 16,
        learnable: ResamplerConfig | None = None,
        cls: ResamplerConfig | None = None,
        use_learnable: bool = True,
        use_cls: bool = True,
        num_positions: int | None = None,
    ) -> None:
        """Builds the resamplers that are used.

        Args:
            dim: Width inside the resamplers.
            output_dim: Width of the tokens, which is that of the UNet's text tokens.
            class_dim: Width of class tokens.
            patch_dim: Width of patch tokens.
            num_learnable: Number of learnable queries.
            learnable: Sizes of the resampler of learnable queries.
            cls: Sizes of the resampler of class tokens.
            use_learnable: Off gives P = R_C.
            use_cls: Off gives P = R_L.
            num_positions: Learned positions for that many patches; None for no positions, which
                DINOv2's tokens carry already.

        Raises:
            ValueError: If neither part is used.
        """
        super().__init__()
        if not (use_learnable or use_cls):
            raise ValueError("use_learnable and use_cls are both off; one must be on")

        def resampler(config: ResamplerConfig | None, num_queries: int | None) -> Resampler:
            return Resampler(
                dim=dim,
                embedding_dim=patch_dim,
                output_dim=output_dim,
                config=config,
                num_queries=num_queries,
                max_seq_len=num_positions,
            )

        self.resampler_l = resampler(learnable, num_learnable) if use_learnable else None
        self.resampler_c = resampler(cls, None) if use_cls else None
        self.cls_in = nn.Linear(class_dim, dim) if use_cls else None

    def forward(self, class_tokens: Tensor, patches: Tensor) -> Tensor:
        """P, (batch, num_learnable + class tokens, output_dim).

        Args:
            class_tokens: (batch, n, class_dim), one per reference.
            patches: (batch, m, patch_dim), of all references.
        """
        parts = []
        if self.resampler_l is not None:
            parts.append(self.resampler_l(patches))
        if self.resampler_c is not None and self.cls_in is not None:
            parts.append(self.resampler_c(patches, self.cls_in(class_tokens)))
        return torch.cat(parts, dim=1)


class PersonalizationAdapter(nn.Module):
    """Text tokens resampled against the class tokens: S = Resampler_T(Z_T, Z_C).

    Text tokens are queries as they are, so the width inside is theirs. Padding is kept and nothing
    is masked, as Stable Diffusion does with its text.
    """

    def __init__(
        self,
        *,
        dim: int = 768,
        output_dim: int = 768,
        class_dim: int = 1024,
        config: ResamplerConfig | None = None,
    ) -> None:
        """Builds the resampler; `dim` is the width of text tokens."""
        super().__init__()
        self.resampler_t = Resampler(
            dim=dim, embedding_dim=class_dim, output_dim=output_dim, config=config
        )

    def forward(self, text: Tensor, class_tokens: Tensor) -> Tensor:
        """S, (batch, text tokens, output_dim).

        `text` is (batch, t, dim), `class_tokens` (batch, n, class_dim).
        """
        tokens: Tensor = self.resampler_t(class_tokens, text)
        return tokens
