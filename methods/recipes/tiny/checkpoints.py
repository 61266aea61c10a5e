"""The tiny checkpoint of a recipe, in its place in a weights folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch

from idbench.methods.recipes.catalogue import recipe_text
from idbench.methods.recipes.quiet import quiet_libraries
from idbench.methods.recipes.recipe import Infuse, Recipe, read_recipe
from idbench.methods.recipes.tiny import (
    adapters,
    faces,
    flux,
    flux2,
    omnigen,
    photomaker,
    qwen,
    stable_diffusion,
)

_SIDE = 64  # of images, in pixels

# Of each pipeline, what writes its folder.
_WRITERS: dict[str, Callable[[Path], object]] = {
    "StableDiffusionPipeline": stable_diffusion.write_sd15,
    "StableDiffusionImg2ImgPipeline": stable_diffusion.write_sd15,
    "StableDiffusionXLPipeline": stable_diffusion.write_sdxl,
    "StableDiffusionXLImg2ImgPipeline": stable_diffusion.write_sdxl,
    "StableDiffusionXLControlNetPipeline": stable_diffusion.write_sdxl,
    "StableDiffusionInstructPix2PixPipeline": stable_diffusion.write_instruct_pix2pix,
    "FluxPipeline": lambda folder: flux.write_flux(folder, diffusers.FluxPipeline),
    "FluxControlNetPipeline": lambda folder: flux.write_flux(folder, diffusers.FluxPipeline),
    "FluxKontextPipeline": lambda folder: flux.write_flux(folder, diffusers.FluxKontextPipeline),
    "FluxPriorReduxPipeline": flux.write_redux,
    "Flux2Pipeline": flux2.write_flux2,
    "QwenImageEditPipeline": lambda folder: qwen.write_qwen_edit(
        folder, diffusers.QwenImageEditPipeline
    ),
    "QwenImageEditPlusPipeline": lambda folder: qwen.write_qwen_edit(
        folder, diffusers.QwenImageEditPlusPipeline
    ),
    "OmniGenPipeline": omnigen.write_omnigen,
}


# What costs time in a tiny model and moves nothing that a check looks at.
_CHEAP: dict[str, dict[str, object]] = {
    "FluxKontextPipeline": {"_auto_resize": False},  # else references are a megapixel
    "OmniGenPipeline": {"max_input_image_size": 128},
    "Flux2Pipeline": {"max_sequence_length": 96},
}


def tiny_arguments(name: str, weights: Path) -> dict[str, Any]:
    """Arguments of a recipe's method over a tiny checkpoint, which is written first.

    Args:
        name: As `recipe_text` takes it.
        weights: Folder to write to.

    Raises:
        LookupError: If there is no such recipe, or no tiny version of its pipeline.
    """
    recipe = read_recipe(*recipe_text(name))
    write_tiny(recipe, weights)
    found: dict[str, Any] = {"weights": weights, "num_inference_steps": 2}
    found |= {"width": _SIDE, "height": _SIDE}
    if recipe.pipeline in _CHEAP:
        found["settings"] = _CHEAP[recipe.pipeline]
    return found


def write_tiny(recipe: Recipe, weights: Path, seed: int = 0) -> None:
    """Writes every folder that a recipe reads.

    The same bytes for the same seed and versions. Folders that exist are left alone, so that
    recipes can share a base.

    Raises:
        LookupError: If there is no tiny version of a pipeline.
    """
    with quiet_libraries(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = _write(recipe.pipeline, weights / recipe.weights["base"].path)
        if recipe.prior is not None:
            _write(recipe.prior.pipeline, weights / recipe.weights[recipe.prior.weights].path)
        for part in recipe.components.values():
            folder = weights / recipe.weights[part.weights].path / part.subfolder
            if (folder / "config.json").exists():
                continue
            if part.class_name == "ControlNetModel":
                stable_diffusion.write_controlnet(folder, _unet(base))
            elif part.class_name == "FluxControlNetModel":
                flux.write_flux_controlnet(folder)
            else:
                adapters.write_clip_vision(folder)
        if recipe.ip_adapter is not None:
            _write_adapter(recipe, weights, base)
        if recipe.photomaker is not None:
            file = weights / recipe.weights[recipe.photomaker.weights].path
            photomaker.write_photomaker(file / recipe.photomaker.weight_name, _unet(base))
        if recipe.infuse is not None:
            _write_infuse(recipe.infuse, recipe, weights)
    if recipe.face_models is not None:
        source = recipe.weights[recipe.face_models]
        detector, recogniser = (weights / source.path / name for name in source.files[:2])
        faces.write_face_networks(detector, recogniser)


def _write(pipeline: str, folder: Path) -> Path:
    if not (folder / "model_index.json").exists():
        if pipeline not in _WRITERS:
            raise LookupError(f"no tiny {pipeline}; there are {', '.join(_WRITERS)}")
        _WRITERS[pipeline](folder)
    return folder


def _write_adapter(recipe: Recipe, weights: Path, base: Path) -> None:
    adapter = recipe.ip_adapter
    if adapter is None:
        return
    path = weights / recipe.weights[adapter.weights].path / adapter.subfolder / adapter.weight_name
    if path.exists():
        return
    if recipe.pipeline == "FluxPipeline":
        adapters.write_flux_ip_adapter(path, flux.WIDTH, flux.TEXT_WIDTH, flux.BLOCKS)
        return
    kinds = {
        "embedding": "faceid",
        "embedding_and_crop": "faceid_plus",
        "raw_embedding": "instantid",
    }
    plain = "plus" if "plus" in adapter.weight_name else "plain"
    adapters.write_ip_adapter(path, _unet(base), kinds.get(adapter.face, plain))


def _write_infuse(infuse: Infuse, recipe: Recipe, weights: Path) -> None:
    path = weights / recipe.weights[infuse.weights].path / infuse.weight_name
    if not path.exists():
        adapters.write_resampler(path, flux.TEXT_WIDTH)
    path = weights / recipe.weights[infuse.recogniser_weights].path / infuse.recogniser_name
    if not path.exists():
        faces.write_arcface(path)


def _unet(base: Path) -> Any:
    return diffusers.UNet2DConditionModel.from_pretrained(base / "unet", local_files_only=True)
