"""CLIP's input beside that of the processor which CLIP-S is commonly computed with."""

import numpy as np
import pytest

from idbench.metrics.extractors.preprocess import clip_pil, to_unit

pytest.importorskip("transformers")
from transformers import CLIPImageProcessor


@pytest.fixture
def picture():
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((40, 40, 1), dtype=np.uint8))  # 360 x 480


def test_it_is_that_of_the_processor_for_uint8_pixels(picture):
    ours = clip_pil(picture).numpy()
    theirs = CLIPImageProcessor()(picture, return_tensors="np")["pixel_values"][0]
    assert ours.shape == theirs.shape == (3, 224, 224)
    # Both resize to whole levels, one with Pillow and one with torch: single pixels differ by two.
    np.testing.assert_allclose(ours, theirs, atol=2.5 / 255 / 0.26)
    assert np.abs(ours - theirs).mean() < 1e-3


def test_pixels_that_were_scaled_before_would_be_scaled_twice(picture):
    """The mistake of feeding [0, 1] where 0 to 255 is expected: nearly black for the network."""
    scaled = to_unit(picture).permute(1, 2, 0).numpy()
    twice = CLIPImageProcessor()(scaled, return_tensors="np", do_rescale=True)["pixel_values"][0]
    assert np.abs(clip_pil(picture).numpy() - twice).mean() > 0.5
