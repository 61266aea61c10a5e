"""All that FlexIP trains, as one diffusers model: saved, loaded and shared as any other."""

from collections.abc import Mapping
from typing import Any, Literal, cast

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from idbench.methods.flexip.adapters import PersonalizationAdapter, PreservationAdapter
from idbench.methods.flexip.attention import GatedKeyValues, TextBranch
from idbench.methods.flexip.injection import cross_attentions
from idbench.methods.flexip.resampler import resampler_config

ClassToken = Literal["projected", "hidden"]
Retrieval = Literal["dino", "clip"]

BASE = "stable-diffusion-v1-5"
CLIP = "OpenCLIP ViT-H/14"
DINO = "DINOv2-L"


def stable_diffusion_layers() -> dict[str, int]:
    """The 16 cross-attentions of Stable Diffusion 1.5 and their channels, in the UNet's order."""
    blocks = {f"down_blocks.{i}": (2, width) for i, width in enumerate((320, 640, 1280))}
    blocks |= {f"up_blocks.{i + 1}": (3, width) for i, width in enumerate((1280, 640, 320))}
    blocks |= {"mid_block": (1, 1280)}
    return {
        f"{block}.attentions.{i}.transformer_blocks.0.attn2": width
        for block, (count, width) in blocks.items()
        for i in range(count)
    }


class FlexIPAdapter(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Preservation adapter, personalization adapter, and keys and values of every layer.

    With the defaults 128,265,984 parameters: 29,721,600 for learnable queries, 30,496,512 for class
    tokens, 29,709,312 for text, 38,338,560 for 64 key and value matrices. Names:
    `preservation.resampler_l.*`, `preservation.resampler_c.*`, `preservation.cls_in.*`,
    `personalization.resampler_t.*`, `attn.<path of the attention>.to_k_p.weight` and so on.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        *,
        dim: int = 768,
        cross_attention_dim: int = 768,
        class_dim: int = 1024,
        patch_dim: int = 1024,
        num_learnable: int = 16,
        resampler: dict[str, int] | None = None,
        resampler_l: dict[str, int] | None = None,
        resampler_c: dict[str, int] | None = None,
        resampler_t: dict[str, int] | None = None,
        num_positions: int | None = None,
        use_learnable: bool = True,
        use_cls: bool = True,
        retrieval: Retrieval = "dino",
        clip_cls: ClassToken = "projected",
        text_branch: TextBranch = "keep",
        layers: dict[str, int] | None = None,
        base: str = BASE,
        clip: str = CLIP,
        dino: str = DINO,
        image_size: int = 224,
        dino_size: int = 224,
    ) -> None:
        """Builds the modules.

        Args:
            dim: Width d inside the resamplers; that of text tokens, which are queries as they are.
            cross_attention_dim: Width of the UNet's context.
            class_dim: Width of CLIP's class token.
            patch_dim: Width of the patches that are retrieved from.
            num_learnable: Number of learnable queries.
            resampler: Values of `ResamplerConfig` that differ from its defaults.
            resampler_l: As `resampler`, for learnable queries alone.
            resampler_c: As `resampler`, for class tokens alone.
            resampler_t: As `resampler`, for text tokens alone.
            num_positions: Learned positions of patches; None for none.
            use_learnable: Off: P = R_C.
            use_cls: Off: P = R_L.
            retrieval: "clip" takes CLIP's patches in place of DINOv2's.
            clip_cls: Which class token: "projected" into the joint space of image and text, or
                "hidden", before the projection.
            text_branch: "replace" drops the frozen text attention.
            layers: Path and channels of each cross-attention; those of Stable Diffusion 1.5 if
                None.
            base: Name of the base model that the adapter belongs to.
            clip: Name of the image encoder of class tokens.
            dino: Name of the image encoder of patches.
            image_size: Pixels of CLIP's input, a side.
            dino_size: Pixels of DINOv2's input, a side.

        Raises:
            ValueError: If `dim` is not the width of text tokens, or a size is out of range.
        """
        super().__init__()
        if dim != cross_attention_dim:
            raise ValueError(
                f"dim must be cross_attention_dim ({cross_attention_dim}), because text tokens are "
                f"queries of the resampler, got {dim}"
            )
        sizes = {
            name: resampler_config({**(resampler or {}), **(given or {})})
            for name, given in (("l", resampler_l), ("c", resampler_c), ("t", resampler_t))
        }
        self.preservation = PreservationAdapter(
            dim=dim,
            output_dim=cross_attention_dim,
            class_dim=class_dim,
            patch_dim=patch_dim,
            num_learnable=num_learnable,
            learnable=sizes["l"],
            cls=sizes["c"],
            use_learnable=use_learnable,
            use_cls=use_cls,
            num_positions=num_positions,
        )
        self.personalization = PersonalizationAdapter(
            dim=dim, output_dim=cross_attention_dim, class_dim=class_dim, config=sizes["t"]
        )
        self.attn = _tree(
            {
                path: GatedKeyValues(cross_attention_dim, hidden_size)
                for path, hidden_size in (layers or stable_diffusion_layers()).items()
            }
        )

    def layers(self) -> dict[str, GatedKeyValues]:
        """Keys and values by path of their attention in the UNet."""
        return {
            path: module
            for path, module in self.attn.named_modules()
            if isinstance(module, GatedKeyValues)
        }

    def forward(self, text: Tensor, class_tokens: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """P and S of each sample, both (batch, tokens, cross_attention_dim).

        Args:
            text: Text tokens, (batch, t, dim).
            class_tokens: CLIP class tokens, (batch, n, class_dim), one per reference.
            patches: (batch, m, patch_dim), of all references.
        """
        return (
            self.preservation(class_tokens, patches),
            self.personalization(text, class_tokens),
        )


def adapter_for(unet: UNet2DConditionModel, **settings: Any) -> FlexIPAdapter:
    """A fresh adapter that fits a UNet; keys and values start as copies of the UNet's own.

    Args:
        unet: Of the kind of Stable Diffusion 1.5.
        **settings: Arguments of `FlexIPAdapter` other than the widths and layers of the UNet.

    Raises:
        ValueError: If the UNet is of another kind.
    """
    # The width of the context has one value for all blocks in Stable Diffusion 1.5.
    width = unet.config["cross_attention_dim"]
    attentions = cross_attentions(unet)
    adapter: FlexIPAdapter = FlexIPAdapter(
        **settings,
        dim=width,
        cross_attention_dim=width,
        layers={path: attn.to_k.weight.shape[0] for path, attn in attentions.items()},
    )
    for path, key_values in adapter.layers().items():
        key_values.copy_text_projections(attentions[path])
    return adapter


def _tree(leaves: Mapping[str, nn.Module]) -> nn.Module:
    """Modules under the names of their dotted paths."""
    root = nn.Module()
    for path, leaf in leaves.items():
        *parents, name = path.split(".")
        node = root
        for parent in parents:
            if parent not in node._modules:
                node.add_module(parent, nn.Module())
            node = cast(nn.Module, node._modules[parent])
        node.add_module(name, leaf)
    return root
