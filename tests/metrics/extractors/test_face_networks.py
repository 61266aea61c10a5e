"""Face classifiers and pose: official checkpoint, catalogue, crops, batches."""

import numpy as np
import pytest
import torch
from torch import nn

from idbench.metrics.extractors.checkpoint import CheckpointError
from idbench.metrics.extractors.facenet import InceptionResnetV1, facenet
from idbench.metrics.extractors.fer_vgg19 import FerVGG19, fer_vgg19, grey_face
from idbench.metrics.extractors.hopenet import HopenetModule, hopenet
from idbench.metrics.extractors.hsemotion import hsemotion
from idbench.metrics.extractors.resemotenet import ResEmoteNet, resemotenet
from idbench.metrics.protocol import Item, Missing
from idbench.metrics.weights import MissingWeightsError, WeightStore


def published_hopenet(path, network):
    # The file holds `fc_finetune` and, being old, no counters of batches.
    state = network(HopenetModule).state_dict()
    kept = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(kept, path)


def published_fer(path, network):
    torch.save({"net": network(FerVGG19).state_dict(), "acc": 73.1, "epoch": 10}, path)


def published_resemotenet(path, network):
    state = network(lambda: ResEmoteNet(width=4)).state_dict()
    torch.save({"model_state_dict": state, "epoch": 3}, path)


def published_hsemotion(path, network):
    timm = pytest.importorskip("timm")
    module = network(lambda: timm.create_model("tf_efficientnet_b0", num_classes=8))
    module.classifier = nn.Sequential(module.classifier)
    for part in module.modules():
        if hasattr(part, "conv_s2d"):  # what modules pickled by an older timm lack
            del part.conv_s2d
    torch.save(module, path)


def published_facenet(path, network):
    state = network(InceptionResnetV1).state_dict()
    torch.save(state | {"logits.weight": torch.zeros(7, 512), "logits.bias": torch.zeros(7)}, path)


CASES = {
    "hopenet": (
        ("hopenet", "hopenet_robust_alpha1.pkl", published_hopenet),
        lambda store, rules, **kw: hopenet(store, rules.faces, **kw),
        (3, 66),
    ),
    "hopenet.ibench": (
        ("hopenet", "hopenet_robust_alpha1.pkl", published_hopenet),
        lambda store, rules, **kw: hopenet(store, rules.ibench, **kw),
        (3, 66),
    ),
    "fer-vgg19": (
        ("fer_vgg19", "PrivateTest_model.t7", published_fer),
        lambda store, rules, **kw: fer_vgg19(store, rules.faces, preprocessing="strict", **kw),
        (7,),
    ),
    "fer-vgg19.ibench": (
        ("fer_vgg19", "PrivateTest_model.t7", published_fer),
        lambda store, rules, **kw: fer_vgg19(store, rules.ibench, preprocessing="ibench", **kw),
        (7,),
    ),
    "resemotenet": (
        ("resemotenet", "best_model.pth", published_resemotenet),
        lambda store, rules, **kw: resemotenet(store, rules.faces, **kw),
        (7,),
    ),
    "hsemotion": (
        ("hsemotion", "enet_b0_8_best_vgaf.pt", published_hsemotion),
        lambda store, rules, **kw: hsemotion(store, rules.faces, **kw),
        (8,),
    ),
    "facenet": (
        ("facenet", "20180402-114759-vggface2.pt", published_facenet),
        lambda store, rules, **kw: facenet(store, **kw),
        (512,),
    ),
}


@pytest.fixture
def build(imported, rules, checkpoints):
    """Makes the extractor of a case from its published file, written once per session."""

    def make(name, **options):
        (key, file, write), construct, shape = CASES[name]
        store = imported(key, {file: lambda path: write(path, checkpoints.random_network)})
        return store, construct(store, rules, **options), shape

    return make


@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith(".ibench")])
def test_one_output_per_face_from_the_published_file_in_any_batch(name, build, items, same_outputs):
    store, extractor, shape = build(name, batch_size=1)
    results = extractor(items)
    found = [result["output"] for result in results]
    assert [len(output) for output in found] == [2, 1, 0]
    assert all(output.shape[1:] == shape for output in found)
    assert all(np.isfinite(output).all() for output in found)
    assert not np.array_equal(found[0][0], found[1][0])
    if name == "facenet":
        np.testing.assert_allclose(np.linalg.norm(found[0], axis=1), 1, rtol=1e-6)
    (digest,) = store.digests(CASES[name][0][0]).values()
    assert digest in extractor.fingerprint()["weights"].values()
    # Another order, and batches of two of which the last is padded.
    _, other, _ = build(name, batch_size=2)
    same_outputs(results, other(items[::-1])[::-1], tolerance=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith(".ibench")])
def test_ibench_has_one_crop_per_image_with_and_without_a_face(name, build, items):
    _, extractor, shape = build(name)
    assert extractor.name == name
    assert extractor.needs == ("mtcnn",)
    face, faceless = extractor([items[0], items[2]])
    assert face["output"].shape == faceless["output"].shape == (1, *shape)


def test_an_output_is_bit_for_bit_the_same_alone_and_in_company(build, items, same_outputs):
    _, extractor, _ = build("resemotenet")
    together = extractor(items)
    same_outputs(together, [extractor([item])[0] for item in items])
    same_outputs(together[::-1], extractor(items[::-1]))


@pytest.mark.parametrize("name", CASES)
def test_absent_weights_are_named_before_any_image_is_read(name, rules, tmp_path):
    (key, _, _), make, _ = CASES[name]
    with pytest.raises(MissingWeightsError, match=f"idbench weights (fetch|import) {key}"):
        make(WeightStore(tmp_path), rules)


def test_a_checkpoint_with_other_keys_is_refused(rules, tmp_path):
    path = tmp_path / "hopenet_robust_alpha1.pkl"
    state = HopenetModule().state_dict()
    state["fc_jaw.weight"] = state.pop("fc_yaw.weight")
    torch.save(state, path)
    extractor = hopenet(WeightStore(tmp_path, overrides={"hopenet": path}), rules.faces)
    item = Item(
        image=np.zeros((60, 60, 3), np.uint8),
        features={"mtcnn": {"boxes": np.array([[5.0, 5.0, 50.0, 50.0]])}},
    )
    with pytest.raises(CheckpointError, match=r"absent: fc_yaw\.weight; 1 unknown: fc_jaw\.weight"):
        extractor([item])


class _Harmful:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize("key", ["hopenet", "hsemotion", "fer_vgg19"])
def test_a_pickle_that_would_run_code_is_refused(key, rules, tmp_path, capsys):
    path = tmp_path / "weights.bin"
    torch.save({"net": _Harmful()}, path)
    make = next(entry[1] for entry in CASES.values() if entry[0][0] == key)
    extractor = make(WeightStore(tmp_path, overrides={key: path}), rules)
    item = Item(
        image=np.zeros((60, 60, 3), np.uint8),
        features={"mtcnn": {"boxes": np.array([[5.0, 5.0, 50.0, 50.0]])}},
    )
    with pytest.raises(CheckpointError, match="is refused"):
        extractor([item])
    assert capsys.readouterr().out == ""


def test_the_ibench_classifier_misses_a_crop_that_is_too_small(build):
    _, extractor, _ = build("fer-vgg19.ibench")
    none = {"mtcnn": {"proposals_rounded": np.empty((0, 4), int)}}
    small = Item(image=np.zeros((43, 80, 3), np.uint8), features=none)
    large = Item(image=np.zeros((44, 44, 3), np.uint8), features=none)
    results = extractor([small, large])
    assert isinstance(results[0], Missing)
    assert results[0].reason == "crop_too_small"
    assert results[1]["output"].shape == (1, 7)


def test_resemotenet_with_six_classes_is_refused(rules, tmp_path, items):
    path = tmp_path / "best_model.pth"
    torch.save({"model_state_dict": ResEmoteNet(classes=6, width=4).state_dict()}, path)
    extractor = resemotenet(WeightStore(tmp_path, overrides={"resemotenet": path}), rules.faces)
    with pytest.raises(CheckpointError, match="6 classes"):
        extractor(items)


def test_resemotenet_at_full_width_has_the_published_number_of_weights():
    # 80.24 million: what the paper's network counts with its seven classes.
    assert sum(p.numel() for p in ResEmoteNet().parameters()) == 80_238_599


def test_the_grey_face_is_luma_with_three_equal_channels():
    colour = np.zeros((48, 48, 3), np.uint8)
    colour[:, :24] = [255, 0, 0]
    colour[:, 24:] = [0, 0, 255]
    grey = grey_face(colour)
    assert grey.shape == (48, 48, 3)
    assert (grey[:, 0] == int(255 * 0.299)).all()
    assert (grey[:, -1] == int(255 * 0.114)).all()
    assert (grey[..., 0] == grey[..., 1]).all()
