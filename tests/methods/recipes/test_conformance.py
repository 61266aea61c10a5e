"""Recipes keep the contract of a method, promise by promise."""

import pytest

from idbench.methods.conformance.kit import check, check_named
from idbench.methods.recipes.catalogue import RECIPES
from idbench.methods.recipes.method import DiffusersMethod

# One of each way in: text alone, images as tokens, faces, a prior, an edit.
QUICK = ("sd15", "ip-adapter-plus-face-sdxl", "flux-redux", "instruct-pix2pix")
OTHERS = [name for name in RECIPES if name not in QUICK]


def failures(checks):
    """What failed; the kit's last check is among those that were made."""
    found = list(checks)
    failed = [(entry.name, entry.detail) for entry in found if entry.passed is False]
    assert failed or "failure" in {entry.name for entry in found}
    return failed


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_a_recipe_passes_the_kit(arguments, name):
    options = arguments(name)
    other = DiffusersMethod(**{**options, "num_inference_steps": 3})
    checks = check(
        DiffusersMethod(**options), fresh=lambda: DiffusersMethod(**options), other=other
    )
    assert failures(checks) == []


@pytest.mark.slow
def test_a_recipe_passes_by_name_in_a_fresh_interpreter(arguments):
    options = arguments("ip-adapter-faceid-plusv2-sd15")
    name = f"diffusers:{options.pop('recipe')}"
    given = {key: value for key, value in options.items() if value is not None}
    assert failures(check_named(name, given)) == []
