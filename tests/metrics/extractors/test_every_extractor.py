"""Every row of the extractors and every metric, end to end on checkpoints in the official formats.

The files hold random weights, in reduced sizes where the loader takes them; they are registered in
a weights folder, found by the catalogue and read as published files are. All networks run over the
same photographs, one input per pass and sixteen, and all metrics are computed from what they found.
"""

import gc
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from idbench.metrics import registry
from idbench.metrics.extractors import clip_network, network, onnx_network
from idbench.metrics.extractors.insightface import FILES
from idbench.metrics.extractors.scrfd import letterbox
from idbench.metrics.protocol import Item, Missing, MissingValueError, Observation, Subject
from idbench.metrics.published_extractors import EXTRACTORS
from idbench.metrics.published_metrics import METRICS
from idbench.metrics.weights import WeightStore


def beside(name):
    """Another test module of this folder: it knows how the published files look."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


faces, whole = beside("test_face_networks"), beside("test_image_networks")

pytestmark = [
    # transformers announces what it writes and reads through deprecated paths of its own.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

PROMPTS = ("a photograph of a man", "a picture of number 1", "a photograph of picture number 2")
PLACES = {"reference": 0, "generated": 1, "base": 2, "ground_truth": 2, "original": 0, "edited": 2}
TEXTS = {"prompt": 0, "element": 1}


def saved(name, make_state):
    return lambda make: {name: lambda path: torch.save(make_state(make), path)}


def one(name, write):
    """A file of the face networks."""
    return lambda make: {name: lambda path: write(path, make.random_network)}


def musiq_named(name):
    def state(make):
        from pyiqa.archs.musiq_arch import MUSIQ

        return make.random_network(lambda: MUSIQ(pretrained=False)).state_dict()

    return saved(name, state)


# Catalogue key -> what writes its published files.
FILES_OF = {
    "hopenet": one("hopenet_robust_alpha1.pkl", faces.published_hopenet),
    "fer_vgg19": one("PrivateTest_model.t7", faces.published_fer),
    "resemotenet": one("best_model.pth", faces.published_resemotenet),
    "hsemotion": one("enet_b0_8_best_vgaf.pt", faces.published_hsemotion),
    "facenet": one("20180402-114759-vggface2.pt", faces.published_facenet),
    "clip_b32": whole.openai("clip_b32", "ViT-B-32.pt"),
    "clip_b16": whole.openai("clip_b16", "ViT-B-16.pt"),
    "clip_rn50": whole.openai("clip_rn50", "RN50.pt"),
    "clip_h14": whole.open_clip_folder,
    "dinov2_base": whole.dinov2_folder,
    "dinov2_small": whole.dinov2_folder,
    "dino_vits16": whole.dino_file("dino_deitsmall16_pretrain.pth"),
    "dino_vits8": whole.dino_file("dino_deitsmall8_pretrain.pth"),
    "dino_vitb16": whole.dino_file("dino_vitbase16_pretrain.pth"),
    "dreamsim": whole.dreamsim_archive,
    "aes_linear": saved(
        "sa_0_4_vit_l_14_linear.pth",
        lambda make: make.randomised(whole.AestheticLinear()).state_dict(),
    ),
    "aes_mlp": saved(
        "sac+logos+ava1-l14-linearMSE.pth",
        lambda make: make.randomised(whole.AestheticMLP()).state_dict(),
    ),
    "inception": whole.inception_file,
    "musiq_spaq": musiq_named("musiq_spaq_ckpt-358bb6af.pth"),
    "musiq_koniq": musiq_named("musiq_koniq_ckpt-e95806b9.pth"),
    "imagereward": whole.image_reward_files,
}


def save_pack(folder, pack, pictures):
    """A pack whose random detector finds two faces or more in every picture."""
    from idbench.metrics.extractors.onnx_graphs import save_iresnet100, save_landmarks, save_scrfd

    detector, recogniser, points = FILES[pack]
    save_iresnet100(folder / recogniser, depths=(1, 1, 1, 1), width=8)
    save_landmarks(folder / points, depths=(1, 1, 1, 1), width=8)
    save_scrfd(folder / detector, base=14)
    second = []
    for picture in pictures:
        square, _ = letterbox(picture, 640)
        pixels = (square.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / np.float32(128)
        outputs = onnx_network.OnnxNetwork(folder / detector).run(pixels)[:3]
        scores = np.sort(np.concatenate([output.ravel() for output in outputs]).astype(np.float64))
        second.append(np.log(scores[-2] / (1 - scores[-2])))
    save_scrfd(folder / detector, base=14, score_bias=-float(min(second)))
    for name in ("2d106det.onnx", "genderage.onnx"):
        (folder / name).write_bytes(b"not needed")


@pytest.fixture(scope="module")
def store(imported, checkpoints, tmp_path_factory, photographs, subject_folders):
    for package in ("joblib", "lz4", "onnx", "pyiqa", "skimage", "transformers"):
        pytest.importorskip(package)
    for key, files in FILES_OF.items():
        found = imported(key, files(checkpoints))
    for key, folder in zip(("grounding_dino", "sam_vit_base"), subject_folders, strict=True):
        for file in found.entry(key).files:
            found.import_file(key, folder / Path(file.path).name)
    overrides = {pack: tmp_path_factory.mktemp(pack) for pack in FILES}
    for pack, folder in overrides.items():
        save_pack(folder, pack, photographs)
    # The aesthetic heads have the published width, so this CLIP has it too.
    overrides["clip_l14"] = tmp_path_factory.mktemp("clip_l14") / "ViT-L-14.pt"
    wide = checkpoints.tiny_clip(checkpoints.vit, embed_dim=768)[0]
    checkpoints.save_as_openai(wide, overrides["clip_l14"])
    return WeightStore(found.root, overrides, checkpoints.without_digests())


@pytest.fixture(scope="module")
def photographs(pictures):
    """Three photographs, two of which show a face that MTCNN finds."""
    astronaut = pictures[0]
    return [
        np.ascontiguousarray(astronaut[20:250, 100:340]),
        np.ascontiguousarray(astronaut[30:240, 130:330, ::-1]),
        np.ascontiguousarray(pictures[2][:200, :256]),
    ]


def run_all(store, photographs, *, batch, order):
    """What every row finds in the photographs and prompts: `images`, `texts`, one map each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "CPU_BATCH", batch)
        patch.setattr(onnx_network, "CPU_BATCH", batch)
        patch.setattr(clip_network, "_shared", {})
        found = SimpleNamespace(images=[{} for _ in photographs], texts=[{} for _ in photographs])
        for name in registry.extractor_order(list(EXTRACTORS)):
            extractor = registry.build_extractor(name, device="cpu", dtype="float32", store=store)
            results = extractor([_item(extractor, n, photographs, found.images) for n in order])
            side = found.texts if extractor.reads == "text" else found.images
            for n, result in zip(order, results, strict=True):
                side[n][name] = result
            del extractor
            clip_network._shared.clear()
            gc.collect()
        return found


def _item(extractor, n, photographs, found):
    height, width = photographs[n].shape[:2]
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 4 : width // 2] = True
    return {
        "text": lambda: Item(text=PROMPTS[n]),
        "image": lambda: Item(
            image=photographs[n], features={need: found[n][need] for need in extractor.needs}
        ),
        "image_text": lambda: Item(image=photographs[n], text=PROMPTS[n]),
        "image_subject": lambda: Item(image=photographs[n], text="cat"),
        "image_mask": lambda: Item(image=photographs[n], mask=mask),
    }[extractor.reads]()


@pytest.fixture(scope="module")
def one_by_one(store, photographs):
    return run_all(store, photographs, batch=1, order=[0, 1, 2])


@pytest.fixture(scope="module")
def by_sixteen(store, photographs):
    """In passes of sixteen, and in another order."""
    return run_all(store, photographs, batch=16, order=[2, 0, 1])


@pytest.mark.parametrize("name", EXTRACTORS)
def test_a_row_reads_its_published_files_and_finds_the_same_in_any_batch(
    name, one_by_one, by_sixteen
):
    def results(run):
        return [found[name] for found in (run.texts if name in run.texts[0] else run.images)]

    alone, together = results(one_by_one), results(by_sixteen)
    for found in alone:
        assert not isinstance(found, Missing), found
        assert all(np.isfinite(value).all() for value in found.values())
    assert any(not np.array_equal(alone[0][feature], alone[1][feature]) for feature in alone[0]), (
        "two photographs give the same"
    )
    for one, other in zip(alone, together, strict=True):
        for feature, value in one.items():
            scale = max(1.0, np.abs(value).max(initial=0))
            np.testing.assert_allclose(other[feature], value, rtol=0, atol=1e-5 * scale)


def values_of(metric, run):
    observation = Observation(
        prompt=PROMPTS[0],
        features={
            role: ((run.texts[TEXTS[role]] if role in TEXTS else run.images[PLACES[role]]),)
            for role in metric.needs
        },
        subjects=(Subject(expression="happy", orientation="side"),),
    )
    try:
        return metric(observation)
    except MissingValueError as error:
        return dict.fromkeys(metric.info.variants, error.missing)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_has_the_same_value_for_passes_of_1_and_of_16_and_in_any_order(
    name, one_by_one, by_sixteen
):
    (metric,) = registry.resolve([name])
    alone, together = values_of(metric, one_by_one), values_of(metric, by_sixteen)
    low, high = metric.info.bounds
    scale = max(1.0, high - low) if np.isfinite(high - low) else 1.0
    for variant in metric.info.variants:
        value = alone[variant]
        assert not isinstance(value, Missing), (variant, value)
        assert together[variant] == pytest.approx(value, rel=1e-5, abs=1e-5 * scale), variant
