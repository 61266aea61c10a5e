"""Recipes fit the diffusers that is installed, or say where they do not."""

from dataclasses import replace

import diffusers
import pytest

from idbench.methods.recipes.catalogue import RECIPES, recipe_text
from idbench.methods.recipes.recipe import Component, Scheduler, read_recipe
from idbench.methods.recipes.validation import check_recipe


def recipe(name="flux-redux"):
    return read_recipe(*recipe_text(name))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_fits(name):
    check_recipe(recipe(name))


PRIOR = recipe().prior


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pipeline": "Flux9Pipeline"}, "pipeline: no pipeline 'Flux9Pipeline'"),
        ({"pipeline": "AutoencoderKL"}, "pipeline: no pipeline 'AutoencoderKL'"),
        (
            {"inputs": {"promt": "prompt"}},
            "inputs or settings: no argument 'promt'; there are prompt",
        ),
        ({"settings": {"guidance.scale": 3}}, "no argument 'guidance'"),
        ({"load": {"safety": None}}, "load or components: no argument 'safety'"),
        (
            {
                "components": {
                    "vae": Component(weights="base", library="diffusers", class_name="Vae")
                }
            },
            "components.vae: diffusers has no Vae",
        ),
        ({"scheduler": Scheduler(class_name="Euler")}, "scheduler: no class Euler"),
        (
            {"scheduler": Scheduler(class_name="DDIMScheduler", settings={"shift": 3})},
            "scheduler: no argument 'shift'",
        ),
        ({"prior": replace(PRIOR, pipeline="Prior")}, "prior.pipeline: no pipeline 'Prior'"),
        ({"prior": replace(PRIOR, settings={"scale": 1})}, "prior: no argument 'scale'"),
        ({"prior": replace(PRIOR, outputs={"embeds": "prompt_embeds"})}, "no argument 'embeds'"),
        ({"prior": replace(PRIOR, share=("unet",))}, "prior.share: no argument 'unet'"),
    ],
)
def test_what_does_not_fit_is_named_with_the_version(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_recipe(replace(recipe(), **changes))
    assert f"flux-redux does not fit diffusers {diffusers.__version__}" in str(caught.value)


def test_a_pipeline_without_ip_adapters_is_named():
    adapter = recipe("ip-adapter-sdxl").ip_adapter
    with pytest.raises(ValueError, match="OmniGenPipeline has no load_ip_adapter"):
        check_recipe(replace(recipe("omnigen"), ip_adapter=adapter))
