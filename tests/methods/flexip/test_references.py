import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BitImageProcessor, CLIPImageProcessor

from idbench.methods.flexip.preprocessing import (
    clip_input,
    dino_input,
    normalised,
    on_white_square,
)
from idbench.methods.flexip.references import Features, ReferenceEncoder, Subject


@pytest.fixture(scope="module")
def encoder(load):
    return load().references


def test_the_picture_is_whole_in_the_middle_of_a_white_square():
    picture = Image.new("RGB", (4, 2), (10, 20, 30))
    square = np.asarray(on_white_square(picture))
    assert square.shape == (4, 4, 3)
    assert (square[1:3] == (10, 20, 30)).all()
    assert (square[[0, 3]] == 255).all()


def test_the_background_becomes_white():
    picture = Image.new("RGB", (3, 3), (10, 20, 30))
    mask = Image.fromarray(np.diag([255, 128, 127]).astype(np.uint8))
    square = np.asarray(on_white_square(picture, mask))
    assert (square[[0, 1], [0, 1]] == (10, 20, 30)).all()
    assert (square[2, 2] == 255).all()
    assert (square[0, 1] == 255).all()


@pytest.mark.parametrize("network", ["clip", "dino"])
def test_preprocessing_is_that_of_the_networks_processors(pictures, network):
    """On a square picture the processors of transformers, without their crop, do the same."""
    square = on_white_square(pictures[0])
    common = {"size": {"height": 28, "width": 28}, "do_center_crop": False, "resample": 3}
    if network == "clip":
        processor, found = CLIPImageProcessor(**common), clip_input(square, 28)
    else:
        processor = BitImageProcessor(
            **common, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
        )
        found = dino_input(square, 28)
    expected = processor(square, return_tensors="pt").pixel_values[0]
    # A level of 255, over the smallest deviation: how far two bicubic kernels may round apart.
    assert (found - expected).abs().max() < 1.01 / 255 / 0.224


def test_a_level_of_grey_is_normalised_by_hand():
    grey = Image.new("RGB", (5, 5), (51, 102, 255))
    found = normalised(grey, 2, (0.1, 0.2, 0.3), (0.5, 0.25, 0.7))
    assert found.shape == (3, 2, 2)
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([0.2, 0.8, 1.0]))


def test_shapes_of_features(encoder, subjects):
    features = encoder(subjects[1])
    assert features.class_tokens.shape == (1, 1, 32)
    assert features.patches.shape == (1, 4, 24)  # (28 / 14)^2, without the class token


def test_features_are_those_of_the_networks(encoder, pictures, subjects):
    square = on_white_square(pictures[1])
    pixels = clip_input(square, 28)[None]
    vision = encoder.clip.vision_model(pixels)
    expected = encoder.clip.visual_projection(vision.pooler_output)
    features = encoder(subjects[1])
    torch.testing.assert_close(features.class_tokens[:, 0], expected)
    hidden = encoder.dino(dino_input(square, 28)[None]).last_hidden_state
    torch.testing.assert_close(features.patches, hidden[:, 1:])


def test_the_hidden_class_token_is_what_the_projection_takes(encoder, subjects):
    hidden = ReferenceEncoder(
        encoder.clip, encoder.dino, clip_cls="hidden", image_size=28, dino_size=28
    )
    tokens = encoder.clip.visual_projection(hidden(subjects[0]).class_tokens)
    torch.testing.assert_close(tokens, encoder(subjects[0]).class_tokens)


def test_patches_of_clip_are_of_the_last_block_but_one(encoder, pictures, subjects):
    from_clip = ReferenceEncoder(encoder.clip, None, retrieval="clip", image_size=28, dino_size=28)
    pixels = clip_input(on_white_square(pictures[0]), 28)[None]
    states = encoder.clip(pixels, output_hidden_states=True).hidden_states
    features = from_clip(subjects[0])
    torch.testing.assert_close(features.patches, states[2][:, 1:])  # of three blocks
    assert from_clip.patch_dim == features.patches.shape[2]


def test_references_of_one_subject_lie_side_by_side(encoder, pictures, subjects):
    both = encoder(Subject(pictures=pictures))
    one, two = (encoder(subject) for subject in subjects)
    assert torch.equal(both.class_tokens, torch.cat([one.class_tokens, two.class_tokens], 1))
    assert torch.equal(both.patches, torch.cat([one.patches, two.patches], 1))


def test_a_mask_takes_the_background_out_of_the_features(encoder, pictures):
    picture = pictures[0]
    mask = Image.new("L", picture.size, 0)
    mask.paste(255, (128, 128, 384, 384))
    other = Image.new("RGB", picture.size, (0, 90, 0))
    other.paste(picture.crop((128, 128, 384, 384)), (128, 128))
    one, two = (encoder(Subject(pictures=(p,), masks=(mask,))) for p in (picture, other))
    assert torch.equal(one.patches, two.patches)
    assert torch.equal(one.class_tokens, two.class_tokens)
    assert not torch.equal(one.patches, encoder(Subject(pictures=(picture,))).patches)


def test_dropped_features_are_zero_and_the_others_as_they_were():
    features = Features(torch.randn(2, 1, 3), torch.randn(2, 4, 3))
    found = features.dropped(torch.tensor([True, False]))
    assert not found.class_tokens[0].any()
    assert not found.patches[0].any()
    assert torch.equal(found.patches[1], features.patches[1])


def test_what_does_not_fit_is_refused(encoder, pictures):
    with pytest.raises(ValueError, match="at least one picture"):
        Subject(pictures=())
    with pytest.raises(ValueError, match="1 pictures and 2 masks"):
        Subject(pictures=pictures[:1], masks=(None, None))
    with pytest.raises(ValueError, match="must be of one size"):
        Subject(pictures=pictures[:1], masks=(Image.new("L", (3, 3)),))
    with pytest.raises(ValueError, match="needs DINOv2"):
        ReferenceEncoder(encoder.clip, None)
    with pytest.raises(ValueError, match="image_size must be 28"):
        ReferenceEncoder(encoder.clip, encoder.dino)
    with pytest.raises(ValueError, match="multiple of 14, got 30"):
        ReferenceEncoder(encoder.clip, encoder.dino, image_size=28, dino_size=30)
