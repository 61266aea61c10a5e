"""Sizes of images that Stable Diffusion's latents can have."""

VAE_FACTOR = 8
SMALLEST_SIDE = 64


def check_size(height: int, width: int) -> None:
    """Refuses image sizes that the latent space does not have.

    Raises:
        ValueError: If a side is not a positive multiple of 8.
    """
    for name, side in (("height", height), ("width", width)):
        if side < SMALLEST_SIDE or side % VAE_FACTOR:
            raise ValueError(
                f"{name} must be a multiple of {VAE_FACTOR} and at least {SMALLEST_SIDE} pixels, "
                f"got {side}"
            )
