"""What DynamicID's two training stages minimise: equations 4, 7 and 8.

The paper writes squared norms; the official code takes means over all elements, and so do these.
"""

from torch import Tensor
from torch.nn.functional import mse_loss


def noise_prediction_loss(predicted: Tensor, noise: Tensor) -> Tensor:
    """Equation 4: mean squared error of the predicted noise, in float32."""
    return mse_loss(predicted.float(), noise.float())


def direct_feature_matching(predicted: Tensor, target: Tensor) -> Tensor:
    """First term of equation 7 (DFM): tokens that the IMR predicts against the target's."""
    return mse_loss(predicted.float(), target.float())


def latent_diffusion_consistency(predicted: Tensor, target: Tensor) -> Tensor:
    """Equation 8 (LDC): the UNet's noise under predicted tokens against that under the target's.

    The target is a constant: no gradient flows through it.
    """
    return mse_loss(predicted.float(), target.detach().float())
