"""A recipe against the diffusers that is installed: classes and arguments exist."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import diffusers
import transformers
from diffusers import DiffusionPipeline

from idbench.methods.recipes.recipe import Recipe

# What the adapter itself passes to every call.
OWN_ARGUMENTS = ("generator", "output_type")


def check_recipe(recipe: Recipe) -> None:
    """Checks every name that a recipe takes from diffusers.

    Raises:
        ValueError: If classes or arguments are not there; the message names them all, with the
            installed version.
    """
    faults = list(_faults(recipe))
    if faults:
        lines = [f"recipe {recipe.name} does not fit diffusers {diffusers.__version__}:", *faults]
        raise ValueError("\n  ".join(lines))


def pipeline_class(name: str) -> type[Any]:
    """A pipeline class of diffusers.

    Raises:
        LookupError: If there is none of this name.
    """
    found = getattr(diffusers, name, None)
    if not (inspect.isclass(found) and issubclass(found, DiffusionPipeline)):
        raise LookupError(f"no pipeline {name!r}")
    return found


def _faults(recipe: Recipe) -> Iterable[str]:
    try:
        main = pipeline_class(recipe.pipeline)
    except LookupError as error:
        yield f"pipeline: {error.args[0]}"
        return
    if recipe.photomaker is not None and recipe.pipeline != "StableDiffusionXLPipeline":
        yield f"photomaker: its file fits StableDiffusionXLPipeline, not {recipe.pipeline}"
    if recipe.infuse is not None and recipe.pipeline != "FluxControlNetPipeline":
        yield f"infuse: its files fit FluxControlNetPipeline, not {recipe.pipeline}"
    given = {*recipe.inputs, *recipe.settings, *OWN_ARGUMENTS}
    if recipe.prior is not None:
        given |= recipe.prior.outputs.keys()
        yield from _prior_faults(recipe, main)
    yield from _unknown("inputs or settings", given, main.__call__)
    yield from _unknown("load or components", {*recipe.load, *recipe.components}, main.__init__)
    libraries = {"diffusers": diffusers, "transformers": transformers}
    for name, part in recipe.components.items():
        if not hasattr(libraries[part.library], part.class_name):
            yield f"components.{name}: {part.library} has no {part.class_name}"
    if recipe.scheduler is not None:
        scheduler = getattr(diffusers, recipe.scheduler.class_name, None)
        if scheduler is None:
            yield f"scheduler: no class {recipe.scheduler.class_name}"
        else:
            yield from _unknown("scheduler", recipe.scheduler.settings, scheduler.__init__)
    for wanted, method in (
        (recipe.ip_adapter, "load_ip_adapter"),
        (recipe.loras, "load_lora_weights"),
        (recipe.photomaker, "load_lora_weights"),
    ):
        if wanted and not hasattr(main, method):
            yield f"pipeline: {recipe.pipeline} has no {method}"


def _prior_faults(recipe: Recipe, main: type[Any]) -> Iterable[str]:
    prior = recipe.prior
    if prior is None:
        return
    try:
        found = pipeline_class(prior.pipeline)
    except LookupError as error:
        yield f"prior.pipeline: {error.args[0]}"
        return
    yield from _unknown("prior", {*prior.inputs, *prior.settings}, found.__call__)
    yield from _unknown("prior.share", prior.share, found.__init__)
    yield from _unknown("prior.share", prior.share, main.__init__)


def _unknown(place: str, names: Iterable[str], function: Any) -> Iterable[str]:
    known: Mapping[str, inspect.Parameter] = inspect.signature(function).parameters
    named = [name for name, entry in known.items() if entry.kind is not entry.VAR_KEYWORD]
    for name in sorted({name.partition(".")[0] for name in names}):
        if name not in named or name == "self":
            arguments = ", ".join(name for name in named if name != "self")
            yield f"{place}: no argument {name!r}; there are {arguments}"
