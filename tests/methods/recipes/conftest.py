"""Tiny checkpoints of the recipes, written once per session, and methods over them."""

import pytest
from PIL import Image

from idbench.methods.protocol import Edit, Person, Reference, Request


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """Writes the folders of a recipe into a weights folder that all recipes share."""
    root = tmp_path_factory.mktemp("weights")

    def write(name):
        from idbench.methods.recipes.catalogue import recipe_text
        from idbench.methods.recipes.recipe import read_recipe
        from idbench.methods.recipes.tiny.checkpoints import write_tiny

        write_tiny(read_recipe(*recipe_text(name)), root)
        return root

    return write


@pytest.fixture(scope="session")
def arguments(tiny_weights):
    """Arguments of `DiffusersMethod` for a recipe over its tiny checkpoint."""

    def of(name, **options):
        from idbench.methods.recipes.tiny.checkpoints import tiny_arguments

        found = tiny_arguments(name, tiny_weights(name))
        settings = {**found.pop("settings", {}), **options.pop("settings", {})}
        return {"recipe": name, "settings": settings or None, **found, **options}

    return of


@pytest.fixture(scope="session")
def tiny_method(arguments):
    """A method over the tiny checkpoint of a recipe, one per set of arguments."""
    from idbench.methods.recipes.method import DiffusersMethod

    built = {}

    def build(name, **options):
        key = (name, repr(sorted(options.items())))
        if key not in built:
            built[key] = DiffusersMethod(**arguments(name, **options))
        return built[key]

    return build


@pytest.fixture(scope="session")
def photograph():
    """scikit-image's astronaut, 256 pixels; another number mirrors and darkens her."""
    from PIL import ImageOps
    from skimage import data

    def picture(number=0):
        image = Image.fromarray(data.astronaut()).resize((256, 256))
        return ImageOps.mirror(image).point(lambda value: int(0.7 * value)) if number else image

    return picture


@pytest.fixture(scope="session")
def request_of(photograph):
    """A request of a kind; `size` None leaves it to the method."""

    def make(kind="single_id", *, seed=3, size=(64, 64), people=1, **options):
        edit = Edit(original=photograph(0), edited=photograph(1), instruction="add a red hat")
        references = tuple(
            Reference(image=photograph(number), sha256=str(number), person=number)
            for number in range(people)
        )
        return Request(
            **{
                "case_id": "c0",
                "sample": 0,
                "seed": seed,
                "prompt": "a person in the rain",
                "kind": kind,
                "references": references,
                "people": tuple(Person(person=number) for number in range(people)),
                "edit": edit if kind == "edit_restoration" else None,
                "width": size and size[0],
                "height": size and size[1],
                **options,
            }
        )

    return make
