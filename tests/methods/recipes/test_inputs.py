"""What recipes are given of a request."""

import numpy as np
import pytest

from idbench.methods.protocol import Edit, Person, Reference
from idbench.methods.recipes.catalogue import recipe_text
from idbench.methods.recipes.inputs import (
    UnusableRequestError,
    chosen_references,
    edit_size,
    read_request,
)
from idbench.methods.recipes.recipe import Size, read_recipe

SIZE = Size(width=1024, height=1024, multiple_of=16)


@pytest.fixture(scope="module")
def read():
    def of(name, request):
        recipe = read_recipe(*recipe_text(name))
        return read_request(recipe, request, recipe.size)

    return of


# Areas by hand: 1024 x 1024 = 1,048,576; 3:2 gives 1254.1 x 836.1, in sixteens 1248 x 832.
@pytest.mark.parametrize(
    ("original", "expected"),
    [
        ((512, 512), (1024, 1024)),
        ((300, 200), (1248, 832)),
        ((2000, 3000), (832, 1248)),
        ((10, 4000), (48, 20480)),
    ],
)
def test_an_edit_keeps_shape_and_area(original, expected):
    assert edit_size(original, SIZE) == expected


def test_an_edit_starts_from_its_original_and_its_instruction(read, request_of, photograph):
    inputs = read("flux-kontext", request_of("edit_restoration", size=None))
    assert inputs.prompt == "add a red hat"
    assert inputs.source.tobytes() == photograph(0).tobytes()
    assert inputs.output_size == (256, 256)
    assert (inputs.width, inputs.height) == (1024, 1024)


def test_other_requests_start_from_their_references(read, request_of):
    inputs = read("flux-kontext", request_of(size=None))
    assert inputs.prompt == "a person in the rain"
    assert inputs.source is None
    assert inputs.value("image") is inputs.references[0].image
    assert inputs.value("images_nested") == [[inputs.references[0].image]]
    assert inputs.value("pixels") == 1024 * 1024


def test_an_image_at_size_is_cropped_not_squeezed(read, request_of):
    stripes = np.zeros((64, 192, 3), np.uint8)
    stripes[:, 64:128] = 255  # the middle third is white
    from PIL import Image

    edit = Edit(original=Image.fromarray(stripes), edited=Image.fromarray(stripes), instruction="x")
    inputs = read("instruct-pix2pix", request_of("edit_restoration", edit=edit, size=None))
    assert inputs.value("image_at_size").size == (inputs.width, inputs.height)
    # 3:1 at 512 x 512 pixels of area: 886.8 x 295.6, in eights 888 x 296
    assert (inputs.width, inputs.height) == (888, 296)


@pytest.mark.parametrize(
    ("name", "options", "reason", "message"),
    [
        ("flux-kontext", {"references": ()}, "no_reference", "case c0 has no reference"),
        (
            "flux-kontext",
            {"size": (100, 64)},
            "bad_size",
            "width must be a multiple of 16, got 100",
        ),
        ("sd15", {"size": (64, 60)}, "bad_size", "height must be a multiple of 8, got 60"),
        (
            "flux-kontext",
            {"kind": "edit_restoration", "edit": None},
            "no_image",
            "no image to edit",
        ),
    ],
)
def test_a_request_that_lacks_something_is_refused(
    read, request_of, name, options, reason, message
):
    with pytest.raises(UnusableRequestError, match=message) as caught:
        read(name, request_of(**options))
    assert caught.value.reason == reason


def test_an_edit_without_instruction_is_refused(read, request_of, photograph):
    edit = Edit(original=photograph(0), edited=photograph(1))
    with pytest.raises(UnusableRequestError, match="says no edit"):
        read("flux-kontext", request_of("edit_restoration", edit=edit))


def test_a_base_model_needs_no_reference(read, request_of):
    assert read("sd15", request_of(references=())).references == ()


def people_of(photograph, *persons):
    image = photograph(0)
    return tuple(
        Reference(image=image, sha256=str(index), person=person)
        for index, person in enumerate(persons)
    )


# Of persons 0, 0, 1, 2, 2: one of each first, so indices 0, 2, 3, then the second of person 0.
@pytest.mark.parametrize(
    ("limit", "kept"), [(None, "01234"), (5, "01234"), (4, "0123"), (3, "023"), (2, "02"), (1, "0")]
)
def test_every_person_keeps_a_reference_before_any_keeps_two(photograph, limit, kept):
    references = people_of(photograph, 0, 0, 1, 2, 2)
    assert "".join(r.sha256 for r in chosen_references(references, limit)) == kept


def test_phrases_stand_before_the_prompt_one_per_reference(read, request_of):
    one = read("omnigen", request_of()).prompt
    two = read("omnigen", request_of("multi_id", people=2)).prompt
    assert one == "The first image is <img><|image_1|></img>. a person in the rain"
    assert two.count("<|image_") == 2


def test_masks_are_the_boxes_of_the_people(read, request_of):
    people = (
        Person(person=0, box=(0.0, 0.0, 0.5, 0.25)),
        Person(person=1, box=(0.5, 0.5, 1.0, 1.0)),
    )
    request = request_of("multi_id", people=2)
    from dataclasses import replace

    masks = read("ip-adapter-plus-face-sd15", replace(request, people=people)).masks()
    expected = np.zeros((2, 64, 64), np.float32)
    expected[0, :16, :32] = 1
    expected[1, 32:, 32:] = 1
    np.testing.assert_array_equal(masks, expected)


def test_without_boxes_people_stand_in_strips(read, request_of):
    masks = read("ip-adapter-plus-face-sd15", request_of("multi_id", people=2)).masks()
    assert masks[0, :, :32].all()
    assert not masks[0, :, 32:].any()
    np.testing.assert_array_equal(masks[1], 1 - masks[0])


def test_one_person_has_no_mask_however_many_references(read, request_of, photograph):
    request = request_of(references=people_of(photograph, 0, 0))
    assert read("ip-adapter-plus-face-sd15", request).value("box_masks") is None
