"""What is trained, as one module for accelerate to wrap."""

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from idbench.methods.flexip.adapter import FlexIPAdapter
from idbench.methods.flexip.attention import GatedContext
from idbench.methods.flexip.gate import Gates, TrainingGate
from idbench.methods.flexip.injection import cross_attentions, inject
from idbench.methods.flexip.references import Features


class TrainableFlexIP(nn.Module):
    """A frozen UNet with an adapter in it, and the gate of training.

    Only the adapter, and the gate if it is learned, have gradients.
    """

    def __init__(
        self, unet: UNet2DConditionModel, adapter: FlexIPAdapter, gate: TrainingGate
    ) -> None:
        """Freezes the UNet and puts the adapter into it."""
        super().__init__()
        self.unet = unet.requires_grad_(False)
        self.adapter = adapter.requires_grad_(True)
        self.gate = gate
        inject(unet, adapter.layers(), adapter.config["text_branch"])
        self.layers = tuple(cross_attentions(unet))

    def forward(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        text: Tensor,
        features: Features,
        varied: Tensor,
        jitter: Tensor | None = None,
    ) -> Tensor:
        """Predicted noise, (batch, 4, h, w) in float32.

        Args:
            noisy_latents: (batch, 4, h, w).
            timesteps: (batch,).
            text: Text tokens, (batch, t, width); those of the empty prompt where text is dropped.
            features: Of the references; zeros where the image is dropped.
            varied: (batch,) bool, true for video and multi-view samples.
            jitter: (batch,) what is added to gamma.
        """
        dtype = self.unet.dtype
        preservation, personalization = self.adapter(
            text.float(), features.class_tokens, features.patches
        )
        gates = Gates(gamma=self.gate(varied, jitter)).of_layers(self.layers)
        context = GatedContext(
            text.to(dtype), preservation.to(dtype), personalization.to(dtype), gates, {}
        )
        noise: Tensor = self.unet(noisy_latents.to(dtype), timesteps, context, return_dict=False)[0]
        return noise.float()


def trained_parameters(model: nn.Module) -> list[torch.nn.Parameter]:
    """The parameters that have gradients."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
