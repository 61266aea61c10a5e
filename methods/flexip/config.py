"""The settings of FlexIP's inference, each default with its source."""

from dataclasses import dataclass, field
from typing import Literal

from idbench.methods.common.latent_sizes import check_size
from idbench.methods.flexip.adapter import BASE, CLIP, DINO
from idbench.methods.flexip.gate import Gates, check_gamma, check_scale

MultiReference = Literal["joint", "mean"]


@dataclass(frozen=True, kw_only=True)
class FlexIPConfig:
    """What a user may set; everything here moves pixels and is part of the fingerprint.

    Attributes:
        gamma: Preservation (1) against personalization (0); 0.5 is ours, the paper does not state
            the value behind its tables.
        scale: Strength s of both adapters; 0 is Stable Diffusion 1.5.
        layer_gamma: gamma of the layers whose path begins with a key, such as "down_blocks",
            "up_blocks.1" or "mid_block"; the longest key wins.
        layer_scale: Factor on `scale`, by layer as `layer_gamma`.
        num_inference_steps: DDIM steps (appendix B.1: 50).
        guidance_scale: Classifier-free guidance (appendix B.1: 7.5); 1 is none and skips the
            unconditional half.
        negative_prompt: Empty; the paper names none.
        height: Of images whose request names none, a multiple of 8 (appendix B.1: 512).
        width: As `height`.
        multi_reference: Several references of one subject: "joint" retrieves from the patches of
            all and has a class query for each; "mean" averages the tokens of each.
        base_name: The base model in use; the adapter must have been made for it.
        clip_name: As `base_name`, the image encoder of class tokens.
        dino_name: As `base_name`, the image encoder of patches.
    """

    gamma: float = 0.5
    scale: float = 1.0
    layer_gamma: dict[str, float] = field(default_factory=dict)
    layer_scale: dict[str, float] = field(default_factory=dict)
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    negative_prompt: str = ""
    height: int = 512
    width: int = 512
    multi_reference: MultiReference = "joint"
    base_name: str = BASE
    clip_name: str = CLIP
    dino_name: str = DINO

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        check_gamma(self.gamma)
        check_scale(self.scale)
        for key, value in self.layer_gamma.items():
            check_gamma(value, f"layer_gamma[{key!r}]")
        for key, value in self.layer_scale.items():
            check_scale(value, f"layer_scale[{key!r}]")
        if self.num_inference_steps < 1:
            raise ValueError(
                f"num_inference_steps must be at least 1, got {self.num_inference_steps}"
            )
        if not 1.0 <= self.guidance_scale <= 100.0:
            raise ValueError(f"guidance_scale must be in [1, 100], got {self.guidance_scale:g}")
        check_size(self.height, self.width)

    def gates(self) -> Gates:
        """The gates of all layers that these settings ask for."""
        return Gates(
            gamma=self.gamma,
            scale=self.scale,
            layer_gamma=self.layer_gamma,
            layer_scale=self.layer_scale,
        )
