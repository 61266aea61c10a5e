"""Networks over whole images and prompts: official checkpoint, catalogue, batches."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from idbench.metrics.extractors.aesthetic import Aesthetic, AestheticLinear, AestheticMLP
from idbench.metrics.extractors.checkpoint import CheckpointError
from idbench.metrics.extractors.clip_image import clip_image
from idbench.metrics.extractors.clip_iqa import ClipIQA
from idbench.metrics.extractors.clip_text import ClipText
from idbench.metrics.extractors.dino import dino_image
from idbench.metrics.extractors.dinov2 import dinov2_face, dinov2_image
from idbench.metrics.extractors.dreamsim import dreamsim
from idbench.metrics.extractors.image_reward import ImageReward, ImageRewardModule
from idbench.metrics.extractors.inception import FidInception, inception
from idbench.metrics.extractors.musiq import load_musiq, musiq, raw_pixels
from idbench.metrics.extractors.preprocess import clip_pil, to_unit
from idbench.metrics.protocol import Item
from idbench.metrics.weights import MissingWeightsError, WeightStore

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photograph", "of", "picture", "number"]
WORDS += ["0", "1", "2", "man", "##s"]
MED = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 30524,
}


def openai(key, name):
    def files(make):
        def write(path):
            vision = make.resnet if key == "clip_rn50" else make.vit
            make.save_as_openai(make.tiny_clip(vision)[0], path)

        return {name: write}

    return files


def open_clip_folder(make):
    module, config = make.tiny_clip(make.vit, quick_gelu=False)
    return {
        "open_clip_config.json": lambda path: path.write_text(json.dumps({"model_cfg": config})),
        "open_clip_model.safetensors": lambda path: save_file(module.state_dict(), path),
    }


def dinov2_folder(make):
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=56
    )
    module = make.randomised(Dinov2Model(config))
    return {
        "config.json": lambda path: config.to_json_file(path),
        "model.safetensors": lambda path: save_file(module.state_dict(), path),
    }


def vision_transformer(**sizes):
    from timm.models.vision_transformer import VisionTransformer

    settings = {"embed_dim": 64, "depth": 2, "num_heads": 1, "num_classes": 0, "patch_size": 56}
    return VisionTransformer(**{**settings, **sizes})


def dino_file(name):
    def files(make):
        module = make.randomised(vision_transformer(patch_size=28))
        return {name: lambda path: torch.save(module.state_dict(), path)}

    return files


def dreamsim_archive(make):
    def tower(seed):
        module = vision_transformer()
        module.pos_drop = torch.nn.LayerNorm(64)
        state = make.randomised(module, seed).state_dict()
        return {"state_dict": state | {"proj": torch.randn(64, 16)}}

    def adapter(path):
        torch.manual_seed(0)
        prefix = "base_model.model.extractor_list.{}.model.blocks.{}.attn.qkv.lora_{}.weight"
        tensors = {}
        for index in range(3):
            for block in range(2):
                tensors[prefix.format(index, block, "A")] = torch.randn(4, 64) / 8
                tensors[prefix.format(index, block, "B")] = torch.randn(192, 4) / 8
        save_file(tensors, path)

    return {
        "clip_vitb16_pretrain.pth.tar": lambda path: torch.save(tower(1), path),
        "open_clip_vitb16_pretrain.pth.tar": lambda path: torch.save(tower(2), path),
        "adapter_config.json": lambda path: path.write_text('{"r": 4, "lora_alpha": 2}'),
        "adapter_model.safetensors": adapter,
    }


def inception_file(make):
    def write(path):
        torch.save(make.random_network(FidInception).state_dict(), path)

    return {"pt_inception-2015-12-05-6726825d.pth": write}


def musiq_file(make):
    arch = pytest.importorskip("pyiqa.archs.musiq_arch")

    def write(path):
        torch.save(make.random_network(lambda: arch.MUSIQ(pretrained=False)).state_dict(), path)

    return {"musiq_spaq_ckpt-358bb6af.pth": write}


def image_reward_files(make):
    def write(path):
        module = ImageRewardModule(MED, vocabulary=15, patch=56, image_width=64, image_layers=2)
        state = make.randomised(module).state_dict()
        # What else the published file holds.
        state |= {"blip.vision_proj.weight": torch.zeros(256, 64)}
        state |= {"blip.text_encoder.embeddings.position_ids": torch.arange(512)[None]}
        torch.save(state, path)

    return {
        "ImageReward.pt": write,
        "med_config.json": lambda path: path.write_text(json.dumps(MED)),
        "vocab.txt": lambda path: path.write_text("\n".join(WORDS)),
    }


CLIP_L14 = {"clip_l14": openai("clip_l14", "ViT-L-14.pt")}
DINO_B16 = {"dino_vitb16": dino_file("dino_vitbase16_pretrain.pth")}

# name -> (files per catalogue key, extractor, name and shape of each feature)
CASES = {
    "clip_l14.image": (CLIP_L14, lambda s, **kw: clip_image(s, "clip_l14", **kw), {"output": 32}),
    "clip_l14.image.ibench": (
        CLIP_L14,
        lambda s, **kw: clip_image(s, "clip_l14", preprocessing="ibench", **kw),
        {"output": 32},
    ),
    "clip_l14.text.windows": (
        CLIP_L14,
        lambda s, **kw: ClipText(s, "clip_l14", windows=True, **kw),
        {"embedding": 32, "tokens": (), "windows": (1, 32), "window_tokens": 1},
    ),
    "clip_h14.image": (
        {"clip_h14": open_clip_folder},
        lambda s, **kw: clip_image(s, "clip_h14", **kw),
        {"output": 32},
    ),
    "clip_iqa": (
        {"clip_rn50": openai("clip_rn50", "RN50.pt")},
        ClipIQA,
        {"similarities": (6, 2), "logit_scale": ()},
    ),
    "dinov2_base.image": (
        {"dinov2_base": dinov2_folder},
        lambda s, **kw: dinov2_image(s, "dinov2_base", **kw),
        {"output": 32},
    ),
    "dino_vits16.image": (
        {"dino_vits16": dino_file("dino_deitsmall16_pretrain.pth")},
        lambda s, **kw: dino_image(s, "dino_vits16", **kw),
        {"output": 64},
    ),
    "dreamsim": (DINO_B16 | {"dreamsim": dreamsim_archive}, dreamsim, {"output": 96}),
    "inception": ({"inception": inception_file}, inception, {"output": 2048}),
    "musiq_spaq": (
        {"musiq_spaq": musiq_file},
        lambda s, **kw: musiq(s, "musiq_spaq", preprocessing="strict", **kw),
        {"output": 1},
    ),
    "image_reward": ({"imagereward": image_reward_files}, ImageReward, {"reward": ()}),
}


@pytest.fixture(scope="module")
def small_items(items):
    """Two items of one size and one of another, small enough for networks of native size."""
    crops = [items[0].image[40:200, 140:300], items[0].image[60:220, 60:220], items[2].image[:96]]
    return [
        Item(image=np.ascontiguousarray(crop), text=item.text)
        for crop, item in zip(crops, items, strict=True)
    ]


@pytest.mark.parametrize("name", CASES)
def test_features_from_the_published_files_in_any_batch(
    name, imported, checkpoints, small_items, same_outputs
):
    files, make, shapes = CASES[name]
    for key, writers in files.items():
        store = imported(key, writers(checkpoints))
    extractor = make(store, batch_size=1)
    results = extractor(small_items)
    assert extractor.name == name
    for features in results:
        found = {feature: value.shape for feature, value in features.items()}
        assert found == {n: s if isinstance(s, tuple) else (s,) for n, s in shapes.items()}
        assert all(np.isfinite(value).all() for value in features.values())
    first = next(iter(shapes))
    assert not np.array_equal(results[0][first], results[1][first])
    digests = {digest for key in files for digest in store.digests(key).values()}
    assert digests <= set(extractor.fingerprint()["weights"].values())
    # Another order, and batches of two of which the last is padded.
    other = make(store, batch_size=2)(small_items[::-1])[::-1]
    same_outputs(results, other, tolerance=1e-5)


def test_features_are_bit_for_bit_the_same_alone_and_in_company(
    imported, checkpoints, small_items, same_outputs
):
    store = imported("clip_l14", CLIP_L14["clip_l14"](checkpoints))
    for extractor in (
        clip_image(store, "clip_l14"),
        ClipText(store, "clip_l14", windows=True),
    ):
        together = extractor(small_items)
        same_outputs(together, [extractor([item])[0] for item in small_items])


@pytest.mark.parametrize("name", CASES)
def test_absent_weights_are_named_before_any_image_is_read(name, tmp_path):
    files, make, _ = CASES[name]
    key = next(iter(files)) if name != "dreamsim" else "dreamsim"
    with pytest.raises(MissingWeightsError, match=f"idbench weights fetch {key}"):
        make(WeightStore(tmp_path))


def test_clip_is_read_with_the_quick_gelu(imported, checkpoints, small_items):
    store = imported("clip_l14", CLIP_L14["clip_l14"](checkpoints))
    found = clip_image(store, "clip_l14")(small_items[:1])[0]["output"]
    image = clip_pil(small_items[0].image)[None]
    outputs = {}
    for quick in (True, False):
        module, _ = checkpoints.tiny_clip(checkpoints.vit, quick_gelu=quick)
        with torch.no_grad():
            outputs[quick] = module.encode_image(image)[0].numpy()
    np.testing.assert_allclose(found, outputs[True], atol=1e-5)
    assert np.abs(found - outputs[False]).max() > 1e-3


def test_image_and_text_extractors_share_one_network(imported, checkpoints):
    store = imported("clip_l14", CLIP_L14["clip_l14"](checkpoints))
    image, text = clip_image(store, "clip_l14"), ClipText(store, "clip_l14")
    other = clip_image(store, "clip_l14", dtype="float64")
    assert image._network is text._network
    assert image._network is not other._network


def test_clip_iqa_reads_an_image_at_its_own_size(imported, checkpoints, small_items):
    store = imported("clip_rn50", CASES["clip_iqa"][0]["clip_rn50"](checkpoints))
    extractor = ClipIQA(store)
    wide = Item(image=small_items[0].image[:64])
    tall = Item(image=small_items[0].image[:, :64])
    first, second = extractor([wide, tall])
    assert not np.array_equal(first["similarities"], second["similarities"])
    assert np.abs(first["similarities"]).max() <= 1
    assert float(first["logit_scale"]) == pytest.approx(100, rel=1e-3)


def test_clip_iqa_refuses_a_model_without_attention_pool(checkpoints, small_items, tmp_path):
    path = tmp_path / "RN50.pt"
    checkpoints.save_as_openai(checkpoints.tiny_clip(checkpoints.vit)[0], path)
    extractor = ClipIQA(WeightStore(tmp_path / "none", overrides={"clip_rn50": path}))
    with pytest.raises(ValueError, match="attention pool"):
        extractor(small_items)


def test_a_file_that_is_no_clip_archive_is_refused(small_items, tmp_path):
    path = tmp_path / "open_clip_model.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    folder = tmp_path
    (folder / "open_clip_config.json").write_text('{"other": 1}')
    store = WeightStore(tmp_path / "none", overrides={"clip_h14": folder})
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json"):
        clip_image(store, "clip_h14")(small_items)


def test_face_crops_and_whole_images_share_the_same_preprocessing(imported, checkpoints, rules):
    store = imported("dinov2_base", dinov2_folder(checkpoints))
    image = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    none = {"mtcnn": {"proposals_rounded": np.empty((0, 4), int)}}
    item = Item(image=image, features=none)
    whole = dinov2_image(store, "dinov2_base")([item])[0]["output"]
    (crop,) = dinov2_face(store, "dinov2_base", rules.ibench)([item])[0]["output"]
    np.testing.assert_array_equal(whole, crop)


def test_ibench_feeds_musiq_255_times_what_it_expects(imported, checkpoints, small_items):
    store = imported("musiq_spaq", musiq_file(checkpoints))
    ibench = musiq(store, "musiq_spaq", preprocessing="ibench")
    assert ibench.name == "musiq_spaq.ibench"
    image = small_items[0].image
    np.testing.assert_allclose(raw_pixels(image), 255 * to_unit(image), rtol=1e-6)
    assert float(raw_pixels(image).max()) > 1


@pytest.mark.parametrize(("height", "width"), [(224, 224), (97, 301), (260, 143)])
def test_musiq_gives_what_the_package_gives(height, width, checkpoints, tmp_path):
    """Its attention is replaced by the fused one; odd sizes have patches of padding."""
    arch = pytest.importorskip("pyiqa.archs.musiq_arch")
    shape = {"num_layers": 3, "pretrained": False}
    original = checkpoints.randomised(arch.MUSIQ(**shape)).eval()
    torch.save(original.state_dict(), tmp_path / "musiq.pth")
    ours = load_musiq(tmp_path / "musiq.pth", num_layers=3).eval()
    assert not any(isinstance(part, arch.MultiHeadAttention) for part in ours.modules())
    generator = torch.Generator().manual_seed(height)
    for scale in (1.0, 255.0):
        images = scale * torch.rand((2, 3, height, width), generator=generator)
        with torch.inference_mode():
            torch.testing.assert_close(ours(images), original(images), rtol=1e-5, atol=1e-5)


def test_musiq_of_another_shape_is_refused(tmp_path, checkpoints):
    arch = pytest.importorskip("pyiqa.archs.musiq_arch")
    path = tmp_path / "musiq.pth"
    torch.save(arch.MUSIQ(pretrained=False, num_layers=1).state_dict(), path)
    with pytest.raises(CheckpointError, match="does not fit MUSIQ"):
        load_musiq(path)
    assert load_musiq(path, num_layers=1)


@pytest.mark.parametrize("head", ["aes_linear", "aes_mlp"])
def test_aesthetic_heads_score_the_unit_embedding(head, imported, checkpoints):
    module = checkpoints.randomised(
        {"aes_linear": AestheticLinear, "aes_mlp": AestheticMLP}[head]()
    )
    name = {
        "aes_linear": "sa_0_4_vit_l_14_linear.pth",
        "aes_mlp": "sac+logos+ava1-l14-linearMSE.pth",
    }[head]
    store = imported(head, {name: lambda path: torch.save(module.state_dict(), path)})
    extractor = Aesthetic(store, head=head, clip="clip_l14.image.aesthetic")
    assert extractor.name == f"{head}.aesthetic"
    assert extractor.needs == ("clip_l14.image.aesthetic",)
    embedding = np.random.default_rng(1).normal(size=768).astype(np.float32)
    items = [
        Item(features={"clip_l14.image.aesthetic": {"output": factor * embedding}})
        for factor in (1, 7)
    ]
    first, second = (float(found["score"]) for found in extractor(items))
    # The MLP has no activations: composing its layers by hand is one matrix product.
    weights = [p.detach().double().numpy() for p in module.parameters()]
    vector = embedding.astype(np.float64) / np.linalg.norm(embedding)
    for matrix, bias in zip(weights[::2], weights[1::2], strict=True):
        vector = matrix @ vector + bias
    assert first == pytest.approx(vector[0], rel=1e-4)
    assert second == pytest.approx(first, rel=1e-5)


@pytest.mark.golden
def test_aesthetic_scores_of_the_published_head(core, core_arrays, imported, tmp_path):
    state = {k: torch.from_numpy(core_arrays[f"aesthetic.{k}"]) for k in ("weight", "bias")}
    torch.save(state, tmp_path / "head.pth")
    store = WeightStore(tmp_path / "none", overrides={"aes_linear": tmp_path / "head.pth"})
    extractor = Aesthetic(store, head="aes_linear", clip="clip_l14.image")
    items = [
        Item(features={"clip_l14.image": {"output": embedding}})
        for embedding in core_arrays["aesthetic.embedding"]
    ]
    scores = [float(found["score"]) for found in extractor(items)]
    np.testing.assert_allclose(scores, core["aesthetic"]["raw"], rtol=1e-6)


def test_a_long_prompt_is_cut_off_and_read_in_windows(imported, checkpoints):
    store = imported("clip_l14", CLIP_L14["clip_l14"](checkpoints))
    extractor = ClipText(store, "clip_l14", windows=True)
    short, start = "a cat on a mat", "word " * 75
    results = extractor([Item(text=text) for text in (short, start, start + "and a dog", "")])
    assert [int(found["tokens"]) for found in results] == [5, 75, 78, 0]
    assert [found["window_tokens"].tolist() for found in results] == [[5], [75], [75, 3], [0]]
    # A prompt that fits is one window, and is cut off nowhere.
    np.testing.assert_array_equal(results[0]["windows"][0], results[0]["embedding"])
    # What comes after the window changes nothing of the truncated embedding.
    np.testing.assert_array_equal(results[1]["embedding"], results[2]["embedding"])
    np.testing.assert_array_equal(results[1]["windows"][0], results[2]["windows"][0])


def test_image_reward_reads_the_prompt(imported, checkpoints, small_items):
    store = imported("imagereward", image_reward_files(checkpoints))
    extractor = ImageReward(store)
    image = small_items[0].image
    texts = ["a photograph of a man", "a picture of mans", "a " * 40, "a " * 60]
    rewards = [float(f["reward"]) for f in extractor([Item(image=image, text=t) for t in texts])]
    assert rewards[0] != rewards[1]
    # Both are cut off after 35 tokens.
    assert rewards[2] == rewards[3]
