"""Segmentation by a word, and embeddings of the subject alone."""

import json

import numpy as np
import pytest
import torch

from idbench.metrics.extractors.grounded_sam import GroundedSam
from idbench.metrics.extractors.subject_embedding import SubjectEmbedding, on_white
from idbench.metrics.identity.subject_similarity import (
    clip_i_vs_ref_masked,
    clip_i_vs_ref_masks,
    dino_masked,
    dino_masks,
)
from idbench.metrics.protocol import Item, Missing, Observation
from idbench.metrics.weights import MissingWeightsError, WeightStore

pytestmark = [
    # transformers announces what it writes and reads through deprecated paths of its own.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def test_the_networks_run_from_their_folders(subject_folders, pictures, monkeypatch):
    from idbench.metrics.extractors import grounded_sam

    segment = GroundedSam(*subject_folders)
    # Random weights are sure of nothing: without a threshold the surest box is taken.
    monkeypatch.setattr(grounded_sam, "BOX_THRESHOLD", 0.0)
    monkeypatch.setattr(grounded_sam, "TEXT_THRESHOLD", 0.0)
    image = pictures[2]
    mask = segment(image, "Cat")
    assert mask is None or (mask.shape == image.shape[:2] and mask.dtype == bool)
    again = segment(image, "cat.")
    np.testing.assert_array_equal(mask, again)


def test_a_subject_that_is_not_there_has_no_mask(subject_folders, pictures, monkeypatch):
    from idbench.metrics.extractors import grounded_sam

    monkeypatch.setattr(grounded_sam, "BOX_THRESHOLD", 1.0)
    assert GroundedSam(*subject_folders)(pictures[2], "cat") is None


def test_a_folder_of_another_network_is_refused(subject_folders, pictures, tmp_path):
    import shutil

    broken = tmp_path / "sam"
    shutil.copytree(subject_folders[1], broken)
    config = json.loads((broken / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 2
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="does not fit SamModel"):
        GroundedSam(subject_folders[0], broken)(pictures[2], "cat")


def the_middle(image, word):
    """A segmenter whose answer is known: the middle ninth; nothing for a dog."""
    if word == "dog":
        return None
    height, width = image.shape[:2]
    mask = np.zeros((height, width), bool)
    mask[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = True
    return mask


@pytest.fixture(scope="module")
def store(imported, checkpoints):
    from timm.models.vision_transformer import VisionTransformer

    def clip(path):
        checkpoints.save_as_openai(checkpoints.tiny_clip(checkpoints.vit)[0], path)

    def dino(path):
        module = VisionTransformer(embed_dim=64, depth=2, num_heads=1, num_classes=0, patch_size=28)
        torch.save(checkpoints.randomised(module).state_dict(), path)

    imported("clip_b32", {"ViT-B-32.pt": clip})
    return imported("dino_vits8", {"dino_deitsmall8_pretrain.pth": dino})


@pytest.fixture(scope="module")
def extractor(store):
    return SubjectEmbedding(store, segmenter=the_middle)


def compare(extractor, reference, generated, word="cat"):
    items = [Item(image=image, text=word) for image in (reference, generated)]
    found = extractor(items)
    observation = Observation(
        prompt="",
        features={
            "reference": ({"subject": found[0]},),
            "generated": ({"subject": found[1]},),
        },
    )
    return [metric(observation) for metric in (clip_i_vs_ref_masked(), dino_masked())]


def test_only_the_subject_counts(extractor, pictures):
    """FlexIP's specification, check 19."""
    image = pictures[2]
    for values in compare(extractor, image, image):
        assert values[""] == pytest.approx(1, abs=1e-5)
        assert values["unsegmented"] == 0
    elsewhere = image.copy()
    elsewhere[~the_middle(image, "cat")] = 17
    for values in compare(extractor, image, elsewhere):
        assert values[""] == pytest.approx(1, abs=1e-6)
    changed = image.copy()
    changed[the_middle(image, "cat")] = 255 - changed[the_middle(image, "cat")]
    for values in compare(extractor, image, changed):
        assert values[""] < 0.999


def test_a_subject_that_is_not_found_falls_back_to_the_whole_image_and_says_so(extractor, pictures):
    image = pictures[2]
    elsewhere = image.copy()
    elsewhere[~the_middle(image, "cat")] = 17
    for values in compare(extractor, image, elsewhere, word="dog"):
        assert values[""] < 0.999
        assert values["unsegmented"] == 1


def test_a_case_without_a_word_is_missing(extractor, pictures):
    known, unknown = extractor([Item(image=pictures[2], text="cat"), Item(image=pictures[2])])
    assert known["clip"].shape == (32,)
    assert known["dino"].shape == (64,)
    assert isinstance(unknown, Missing)
    assert unknown.reason == "no_subject"


def test_imported_masks_give_what_the_segmenter_gives(store, extractor, pictures):
    image = pictures[2]
    other = image.copy()
    other[the_middle(image, "cat")] = 255 - other[the_middle(image, "cat")]
    imported = SubjectEmbedding(store, masks="imported")
    items = [Item(image=each, mask=the_middle(image, "cat")) for each in (image, other)]
    found = imported(items)
    observation = Observation(
        prompt="",
        features={
            "reference": ({"subject.masks": found[0]},),
            "generated": ({"subject.masks": found[1]},),
        },
    )
    for metric, expected in zip(
        (clip_i_vs_ref_masks(), dino_masks()), compare(extractor, image, other), strict=True
    ):
        assert metric(observation) == {"": expected[""]}
    (without,) = imported([Item(image=image)])
    assert isinstance(without, Missing)
    assert without.reason == "no_mask"
    assert imported.fingerprint()["name"] == "subject.masks"


def test_absent_weights_are_named(tmp_path):
    with pytest.raises(MissingWeightsError, match="idbench weights fetch grounding_dino"):
        SubjectEmbedding(WeightStore(tmp_path))


def test_what_is_not_the_subject_becomes_white():
    image = np.full((2, 2, 3), 7, np.uint8)
    mask = np.array([[True, False], [False, True]])
    assert on_white(image, mask)[..., 0].tolist() == [[7, 255], [255, 7]]
