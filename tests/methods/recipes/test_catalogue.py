"""Recipes have names among the methods and cost nothing until they are used."""

import subprocess
import sys
from importlib.resources import files

import pytest

from idbench.methods.recipes.catalogue import PACKAGE, RECIPES, recipe_infos, recipe_text
from idbench.methods.registry import build, list_methods, method_info


def test_the_table_names_every_file_and_no_other():
    folder = files(PACKAGE) / "diffusers"
    assert {entry.name for entry in folder.iterdir()} == {f"{name}.yaml" for name in RECIPES}


def test_listing_recipes_imports_neither_torch_nor_diffusers():
    code = (
        "import sys; from idbench.methods.registry import list_methods; list_methods();"
        "heavy = ('torch', 'diffusers', 'pydantic', 'numpy');"
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_infos_carry_what_the_list_shows():
    info = {info.name: info for info in recipe_infos()}["diffusers:flux-kontext"]
    assert info.route == "recipe"
    assert info.base == "flux-kontext"
    assert "edit_restoration" in info.kinds
    assert info.rows == ("editedid:table6:Flux.1 Kontext",)
    assert "flux-kontext-dev/model_index.json" in info.needs
    assert info in list_methods()


@pytest.mark.parametrize("name", ["base:sd15", "diffusers:sd15"])
def test_a_base_model_has_two_names_and_is_one_method(name):
    assert build(name).name == "base:sd15"


def test_a_name_that_fixes_its_recipe_takes_no_other():
    with pytest.raises(ValueError, match="names its 'recipe' already"):
        build("base:sd15", {"recipe": "sdxl"})


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(LookupError, match=r"unknown recipe 'flux3'; known: sd15, sdxl"):
        build("diffusers:flux3")


def test_a_recipe_of_the_users_own_is_a_file(tmp_path):
    text = (
        recipe_text("sd15")[0].replace("name: sd15", "name: mine").replace("label: base:sd15", "")
    )
    (tmp_path / "mine.yaml").write_text(text.replace("label: base:sd15", ""))
    assert build(f"diffusers:{tmp_path / 'mine.yaml'}").name == "mine"
    assert method_info("diffusers:mine.yaml").name == "diffusers"
    with pytest.raises(FileNotFoundError, match=r"there is no recipe .*other\.yaml"):
        build(f"diffusers:{tmp_path / 'other.yaml'}")
