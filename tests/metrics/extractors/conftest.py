"""Checkpoints in the official formats, with random weights, and real pictures to run them on."""

import dataclasses
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from idbench.metrics.extractors.face_crop import EveryFace, IBenchCrop
from idbench.metrics.protocol import Item
from idbench.metrics.weights import WeightStore, load_catalogue

WIDTH = 64  # of the reduced transformers: one attention head
SUBJECT_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "cat", "dog"]
TEXT = {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 1, "layers": 2}


def randomised(module, seed=0, scale=1.0):
    """The module with weights that keep activations alive, running statistics included."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor):
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, value in module.state_dict().items():
            if not value.is_floating_point():
                value.zero_()
            elif name.endswith("running_var"):
                value.copy_(1 + 0.1 * noise(value).abs())
            elif value.ndim >= 2:
                fan_in = value[0].numel()
                value.copy_(noise(value) * scale / fan_in**0.5)
            elif name.endswith("weight"):
                value.copy_(1 + 0.1 * noise(value))
            else:
                value.copy_(0.1 * noise(value))
    return module


def random_network(build, seed=0):
    """A network of `build` with random weights, without drawing the usual ones first."""
    with torch.device("meta"):
        module = build()
    return randomised(module.to_empty(device="cpu"), seed).eval()


def tiny_clip(vision, seed=0, quick_gelu=True, embed_dim=32):
    """A reduced CLIP of open_clip, weights representable in half precision."""
    import open_clip

    config = {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": TEXT}
    module = randomised(open_clip.CLIP(**config, quick_gelu=quick_gelu), seed).eval()
    with torch.no_grad():
        module.logit_scale.fill_(np.log(100))
        for parameter in module.parameters():
            parameter.copy_(parameter.half().float())
    return module, config


TINY_VIT = {"image_size": 224, "layers": 2, "width": WIDTH, "patch_size": 56}
TINY_RESNET = {"image_size": 224, "layers": (1, 1, 1, 1), "width": 8, "patch_size": None}


def save_as_openai(module, path):
    """A TorchScript archive as OpenAI publishes: traced, with three sizes as buffers."""
    side = 224
    sizes = {"input_resolution": side, **{k: TEXT[k] for k in ("context_length", "vocab_size")}}
    for name, size in sizes.items():
        if hasattr(module, name):
            delattr(module, name)
        module.register_buffer(name, torch.tensor(size))
    mask = module._buffers.pop("attn_mask")
    module._non_persistent_buffers_set.discard("attn_mask")
    module.attn_mask = mask  # a constant of the trace: OpenAI's archives do not hold it
    with warnings.catch_warnings():
        # Writing OpenAI's format needs the deprecated TorchScript.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace_module(
            module,
            {
                "encode_image": (torch.zeros(1, 3, side, side),),
                "encode_text": (torch.zeros(1, TEXT["context_length"], dtype=torch.int32),),
            },
        )
        torch.jit.save(traced, path)


@pytest.fixture(scope="session")
def checkpoints():
    """Builders of random networks in official shapes."""
    return SimpleNamespace(
        random_network=random_network,
        randomised=randomised,
        tiny_clip=tiny_clip,
        save_as_openai=save_as_openai,
        without_digests=without_digests,
        vit=TINY_VIT,
        resnet=TINY_RESNET,
    )


@pytest.fixture(scope="session")
def pictures():
    """Real photographs, uint8 RGB, of several sizes; the first two show a face."""
    data = pytest.importorskip("skimage.data")
    astronaut = data.astronaut()
    return [
        astronaut,
        np.ascontiguousarray(astronaut[:400, 60:420]),
        np.ascontiguousarray(data.chelsea()[:250, :320]),
    ]


@pytest.fixture(scope="session")
def items(pictures):
    """The pictures as items, with a prompt each and hand-made detections."""
    two = np.array([[180.0, 60.0, 265.0, 170.0], [20.0, 30.0, 100.0, 130.0]])
    found = [
        {"boxes": two, "scores": np.ones(2), "proposals_rounded": np.array([[180, 60, 85, 110]])},
        {
            "boxes": two[1:],
            "scores": np.ones(1),
            "proposals_rounded": np.array([[110, 80, 85, 110]]),
        },
        {
            "boxes": np.empty((0, 4)),
            "scores": np.empty(0),
            "proposals_rounded": np.empty((0, 4), int),
        },
    ]
    return [
        Item(
            image=picture,
            text=f"a photograph of picture number {number}",
            features={"mtcnn": found[number]},
        )
        for number, picture in enumerate(pictures)
    ]


@pytest.fixture(scope="session")
def rules():
    """The crop rules on the hand-made detections."""
    return SimpleNamespace(ibench=IBenchCrop("mtcnn"), faces=EveryFace("mtcnn"))


@pytest.fixture(scope="session")
def weights_root(tmp_path_factory):
    """One folder of weights for all tests of a session: large networks are written once."""
    return tmp_path_factory.mktemp("weights")


def without_digests():
    """The catalogue without published digests, for files with random weights."""
    return {
        key: dataclasses.replace(
            entry,
            files=tuple(dataclasses.replace(file, sha256=None) for file in entry.files),
        )
        for key, entry in load_catalogue().items()
    }


@pytest.fixture(scope="session")
def imported(weights_root, tmp_path_factory):
    """`imported(key, {name: write})` registers the files that `write(path)` makes; gives a store.

    A key that was imported before in the session is not written again.
    """
    store = WeightStore(weights_root, catalogue=without_digests())
    scratch = tmp_path_factory.mktemp("official")

    def importing(key, files):
        if not store.is_present(key):
            for name, write in files.items():
                write(scratch / name)
                store.import_file(key, scratch / name)
                (scratch / name).unlink()
        assert store.is_present(key)
        return store

    return importing


@pytest.fixture(scope="session")
def same_outputs():
    """Checks that two runs found the same, within a share of the largest value."""

    def check(first, second, tolerance=0.0):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert type(a) is type(b)
            if isinstance(a, dict):
                assert a.keys() == b.keys()
                for name in a:
                    largest = np.abs(a[name]).max(initial=0)
                    np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance * largest)

    return check


@pytest.fixture(scope="session")
def subject_folders(tmp_path_factory):
    """Grounding DINO and SAM in small, in the form that Hugging Face publishes."""
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    detector, sam = tmp_path_factory.mktemp("detector"), tmp_path_factory.mktemp("sam")
    (detector / "vocab.txt").write_text("\n".join(SUBJECT_WORDS), "utf-8")
    text = hf.BertConfig(
        vocab_size=len(SUBJECT_WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    backbone = hf.SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    config = hf.GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=20,
        max_text_len=16,
    )
    hf.GroundingDinoForObjectDetection(config).save_pretrained(detector)
    hf.GroundingDinoProcessor(
        hf.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}),
        hf.BertTokenizer(str(detector / "vocab.txt")),
    ).save_pretrained(detector)
    vision = hf.SamVisionConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=64,
        output_channels=32,
        window_size=2,
        global_attn_indexes=[0],
        mlp_dim=32,
        num_pos_feats=16,
    )
    prompt = hf.SamPromptEncoderConfig(hidden_size=32, image_size=64)
    decoder = hf.SamMaskDecoderConfig(
        hidden_size=32,
        mlp_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        iou_head_hidden_dim=32,
    )
    hf.SamModel(
        hf.SamConfig(
            vision_config=vision.to_dict(),
            prompt_encoder_config=prompt.to_dict(),
            mask_decoder_config=decoder.to_dict(),
        )
    ).save_pretrained(sam)
    sizes = {
        "size": {"longest_edge": 64},
        "pad_size": {"height": 64, "width": 64},
        "mask_size": {"longest_edge": 16},
        "mask_pad_size": {"height": 16, "width": 16},
    }
    hf.SamProcessor(hf.SamImageProcessor(**sizes)).save_pretrained(sam)
    tokens = {f"{name.strip('[]').lower()}_token": name for name in SUBJECT_WORDS[:5]}
    (detector / "special_tokens_map.json").write_text(json.dumps(tokens))
    for folder in (detector, sam):
        # The published folders have the older file, which holds the image processor alone.
        newer = folder / "processor_config.json"
        processor = json.loads(newer.read_text())["image_processor"]
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        newer.unlink()
    return detector, sam
