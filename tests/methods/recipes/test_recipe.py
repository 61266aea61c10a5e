"""Recipes are read strictly."""

import copy

import pytest
import yaml

from idbench.methods.recipes.catalogue import RECIPES, recipe_text
from idbench.methods.recipes.recipe import read_recipe

SOUND = {
    "name": "mine",
    "summary": "one line",
    "kinds": ["single_id"],
    "base": "sd15",
    "licence": "MIT",
    "pipeline": "StableDiffusionPipeline",
    "weights": {"base": {"repository": "a/b", "path": "b", "files": ["*.json"]}},
    "inputs": {"prompt": "prompt", "image": "reference"},
    "settings": {"num_inference_steps": 3},
    "size": {"width": 512, "height": 512, "multiple_of": 8},
}


def read(**changes):
    document = {**copy.deepcopy(SOUND), **changes}
    return read_recipe(yaml.safe_dump(document), "mine.yaml")


def test_a_sound_recipe_is_read_with_its_defaults():
    recipe = read()
    assert recipe.inputs == {"prompt": "prompt", "image": "reference"}
    assert recipe.weights["base"].revision == "main"
    assert recipe.uses_references
    assert not recipe.is_edit


def test_a_recipe_without_references_says_so():
    assert not read(inputs={"prompt": "prompt", "width": "width"}).uses_references


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": 3}, r"mine.yaml: speed: Unexpected"),
        ({"inputs": {"prompt": "promt"}}, r"inputs.prompt: Input should be 'prompt', 'reference'"),
        ({"size": {"width": "512", "height": 512, "multiple_of": 8}}, r"size.width: .* integer"),
        ({"kinds": ["single"]}, r"kinds.0: Input should be 'single_id'"),
        ({"kinds": []}, r"kinds: .* at least 1"),
        ({"name": "my method"}, r"name: String should match"),
        ({"dtype": "int8"}, r"dtype: Input should be 'float32'"),
        ({"weights": {}}, r"weights: base is missing"),
        (
            {"ip_adapter": {"weights": "adapter", "weight_name": "a.bin"}},
            r"ip_adapter: no weights are called 'adapter'; there are base",
        ),
        (
            {"weights": {**SOUND["weights"], "spare": SOUND["weights"]["base"]}},
            r"weights: nothing uses 'spare'",
        ),
        ({"settings": {"image": None}}, r"image is both an input and a setting"),
        ({"inputs": {"image": "face_embeds"}}, r"ip_adapter.face and an input from face_embeds"),
        ({"inputs": {"image": "landmarks"}}, r"face_models belongs to"),
        ({"kinds": ["multi_id"]}, r"kinds has multi_id, but max_people is 1"),
        ({"reference_phrases": ["This is <1>."]}, r"for 1 references; set max_references"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        read(**changes)


@pytest.mark.parametrize("text", ["- a list", "just text", "a: [unclosed"])
def test_a_file_that_is_no_mapping_is_refused(text):
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        read_recipe(text, "mine.yaml")


def test_every_fault_is_named_at_once():
    with pytest.raises(ValueError, match="speed") as caught:
        read(speed=3, dtype="int8")
    assert "dtype" in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_of_the_package_is_sound(name):
    recipe = read_recipe(*recipe_text(name))
    assert recipe.name == name
    assert recipe.licence
    assert all(
        recipe.size.__getattribute__(side) % recipe.size.multiple_of == 0
        for side in ("width", "height")
    )
