"""A recipe's files to a pipeline of diffusers: offline, and with no weight left at random."""

import importlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import ModelMixin
from torch import nn
from transformers import CLIPVisionModelWithProjection, PreTrainedModel

from idbench.methods.common.pretrained import from_transformers, load_clip_vision
from idbench.methods.common.state_dicts import describe_keys
from idbench.methods.recipes.ip_adapters import load_ip_adapter
from idbench.methods.recipes.photomaker import load_photomaker
from idbench.methods.recipes.quiet import quiet_libraries
from idbench.methods.recipes.recipe import Component, Recipe
from idbench.methods.recipes.validation import check_recipe, pipeline_class

ANY_KEY = ("",)  # every key begins with it


def load_pipeline(
    recipe: Recipe, folders: Mapping[str, Path], *, device: str, dtype: torch.dtype
) -> Any:
    """The main pipeline of a recipe.

    Args:
        recipe: The recipe.
        folders: The folder of each key of `recipe.weights`.
        device: Of all networks.
        dtype: Of all networks.

    Raises:
        OSError: If a folder lacks a file.
        ValueError: If the recipe does not fit the installed diffusers, or a network would keep
            weights that no file gives it.
    """
    check_recipe(recipe)
    with quiet_libraries():
        pipe = _main(recipe, folders, dtype)
    return _ready(pipe, device)


def _main(recipe: Recipe, folders: Mapping[str, Path], dtype: torch.dtype) -> Any:
    given = dict(recipe.load)
    for name, part in recipe.components.items():
        given[name] = _load_component(part, folders[part.weights], dtype)
    pipe = _load(recipe.pipeline, folders["base"], given, dtype)
    if recipe.scheduler is not None:
        scheduler = getattr(diffusers, recipe.scheduler.class_name)
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **recipe.scheduler.settings)
    if recipe.ip_adapter is not None:
        load_ip_adapter(pipe, recipe.ip_adapter, folders[recipe.ip_adapter.weights])
    for index, lora in enumerate(recipe.loras):
        pipe.load_lora_weights(
            folders[lora.weights] / lora.subfolder,
            weight_name=lora.weight_name,
            adapter_name=f"lora{index}",
            local_files_only=True,
        )
    if recipe.photomaker is not None:
        folder = folders[recipe.photomaker.weights]
        pipe.id_encoder = load_photomaker(pipe, recipe.photomaker, folder, dtype)
    if recipe.loras:
        names = [f"lora{index}" for index in range(len(recipe.loras))]
        pipe.set_adapters(names, [lora.scale for lora in recipe.loras])
    return pipe


def load_prior(
    recipe: Recipe, folders: Mapping[str, Path], main: Any, *, device: str, dtype: torch.dtype
) -> Any:
    """The pipeline that runs before `main`; None where the recipe has none."""
    if recipe.prior is None:
        return None
    shared = {name: getattr(main, name) for name in recipe.prior.share}
    with quiet_libraries():
        prior = _load(recipe.prior.pipeline, folders[recipe.prior.weights], shared, dtype)
    return _ready(prior, device)


def _ready(pipe: Any, device: str) -> Any:
    pipe.set_progress_bar_config(disable=True)
    if hasattr(pipe, "id_encoder"):  # no component that the pipeline knows
        pipe.id_encoder.to(device)
    return pipe.to(device)


def _load(name: str, folder: Path, given: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """A pipeline of a folder; its networks are loaded strictly, the rest as diffusers does."""
    parts = dict(given)
    index = json.loads((folder / "model_index.json").read_text())
    for part, entry in index.items():
        if part in parts or not isinstance(entry, list):
            continue
        found = _model_class(*entry)
        if found is not None:
            parts[part] = _strictly(found, folder / part, dtype)
    pipe = pipeline_class(name).from_pretrained(folder, local_files_only=True, **parts)
    for part, network in pipe.components.items():
        if part not in parts and isinstance(network, nn.Module):  # it lives beside its pipeline
            network.to(dtype)
    return pipe


def _model_class(library: str | None, name: str | None) -> type[Any] | None:
    """The class of a network; None for tokenizers, schedulers and parts that are absent."""
    if library not in ("diffusers", "transformers") or name is None:
        return None
    found = getattr(importlib.import_module(library), name, None)
    if inspect.isclass(found) and issubclass(found, ModelMixin | PreTrainedModel):
        return found
    return None


def _load_component(part: Component, folder: Path, dtype: torch.dtype) -> Any:
    library = {"diffusers": diffusers, "transformers": transformers}[part.library]
    return _strictly(getattr(library, part.class_name), folder / part.subfolder, dtype)


def _strictly(model_class: type[Any], folder: Path, dtype: torch.dtype) -> Any:
    """A network in which every weight comes from the files.

    Keys that are left over are no error: they move no pixel unless another one is missing.

    Raises:
        ValueError: If a weight is missing; the message names it.
    """
    if model_class is CLIPVisionModelWithProjection:
        return load_clip_vision(folder).to(dtype).eval()
    if issubclass(model_class, PreTrainedModel):
        return from_transformers(model_class, folder, ANY_KEY).to(dtype).eval()
    model, info = model_class.from_pretrained(
        folder, local_files_only=True, torch_dtype=dtype, output_loading_info=True
    )
    if info["missing_keys"]:
        missing = describe_keys(info["missing_keys"])
        raise ValueError(f"{folder}: not a {model_class.__name__}; missing {missing}")
    return model.eval()
