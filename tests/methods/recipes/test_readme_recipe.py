"""README's recipe is a method: it fits diffusers and makes images over tiny weights."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from idbench.methods.recipes.recipe import read_recipe
from idbench.methods.recipes.tiny.checkpoints import tiny_arguments
from idbench.methods.recipes.validation import check_recipe
from idbench.methods.registry import build

README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")


@pytest.fixture
def recipe(tmp_path):
    (text,) = [
        block
        for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
        if "name: sdedit" in block
    ]
    path = tmp_path / "sdedit.yaml"
    path.write_text(text, "utf-8")
    assert f"diffusers:{path.name} --tiny" in README
    return path


def test_it_fits_the_installed_diffusers(recipe):
    check_recipe(read_recipe(recipe.read_text("utf-8"), "sdedit.yaml"))


def test_it_is_the_pipeline_that_it_names(recipe, tmp_path, request_of, photograph):
    """The image is that of diffusers' own class, called as its documentation says."""
    from diffusers import StableDiffusionImg2ImgPipeline
    from PIL import Image, ImageOps

    arguments = tiny_arguments(str(recipe), tmp_path)
    method = build(f"diffusers:{recipe}", {**arguments, "num_inference_steps": 4})
    (image,) = method.generate([request_of()])
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(
        tmp_path / "stable-diffusion-v1-5", safety_checker=None
    )
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompt="a person in the rain",
        image=ImageOps.fit(photograph(0), (64, 64), Image.Resampling.LANCZOS),
        strength=0.6,
        num_inference_steps=4,
        guidance_scale=7.5,
        generator=torch.Generator("cpu").manual_seed(3),
    ).images[0]
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
    assert method.name == "sdedit"
