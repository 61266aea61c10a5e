"""PhotoMaker v2 against its equations and the official loop, written out."""

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, layer_norm, linear

from idbench.methods.protocol import Failure, Reference
from idbench.methods.recipes.photomaker import split_at_class, stacked_ids
from idbench.methods.recipes.photomaker_encoder import encoder_of
from idbench.methods.recipes.tiny.texts import clip_tokenizer

STEPS, SIDE = 3, 64
FILE = "photomaker-v2.bin"

# What numpy 2 deprecates is in schedulers; what scikit-image deprecates in insightface.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning"),
]


@pytest.mark.parametrize(
    ("prompt", "class_word", "expected"),
    [
        ("a woman img in Rome", "man", ("a woman", " in Rome")),  # marked as in the official code
        ("a woman in Rome", None, ("a woman", " in Rome")),
        ("A Man in Rome", "man", ("A Man", " in Rome")),
        ("a human mandolin", None, ("a photo of a person", ", a human mandolin")),
        ("一个人在雨中", "woman", ("a photo of a woman", ", 一个人在雨中")),
        ("img of a girl", None, ("img of a girl", "")),
    ],
)
def test_where_the_class_word_is(prompt, class_word, expected):
    assert split_at_class(prompt, class_word) == expected


def test_the_class_word_stands_once_for_each_token():
    """By hand, with a tokenizer of single letters: a word's last letter has an id of its own."""
    tokenizer = clip_tokenizer()
    ids, places = stacked_ids(tokenizer, "a x", " b", 4)
    pieces = tokenizer.convert_ids_to_tokens(ids[:8])
    assert pieces == ["<|startoftext|>", "a</w>", *["x</w>"] * 4, "b</w>", "<|endoftext|>"]
    assert [index for index, inside in enumerate(places) if inside] == [2, 3, 4, 5]
    assert len(ids) == len(places) == 77


def test_a_long_prompt_is_cut():
    ids, places = stacked_ids(clip_tokenizer(), "a x", " b" * 100, 2)
    assert len(ids) == 77
    assert sum(places) == 2


def encoded(state, pixels, faces, prompt, mask):
    """The encoder by its equations, one head everywhere; CLIP itself is transformers'."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=64,
            projection_dim=64,
            image_size=28,
            patch_size=14,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=1,
        )
    )
    clip.load_state_dict({key: state[key] for key in clip.state_dict()})
    patches = clip.vision_model(pixels).last_hidden_state

    def dense(name, x):
        return linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name, x):
        return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    former = "qformer_perceiver"
    tokens = dense(f"{former}.token_proj.2", gelu(dense(f"{former}.token_proj.0", faces)))
    tokens = norm(f"{former}.token_norm", tokens.reshape(len(faces), 2, -1))
    resampler = f"{former}.perceiver_resampler"
    context, latents = dense(f"{resampler}.proj_in", patches), tokens
    layer = f"{resampler}.layers.0"
    normed, queries = norm(f"{layer}.0.norm1", context), norm(f"{layer}.0.norm2", latents)
    key, value = dense(f"{layer}.0.to_kv", torch.cat([normed, queries], dim=1)).chunk(2, dim=-1)
    weights = (dense(f"{layer}.0.to_q", queries) @ key.transpose(1, 2) / 128**0.5).softmax(-1)
    latents = latents + dense(f"{layer}.0.to_out", weights @ value)
    inner = gelu(dense(f"{layer}.1.1", norm(f"{layer}.1.0", latents)))
    latents = latents + dense(f"{layer}.1.3", inner)
    identity = tokens + norm(f"{resampler}.norm_out", dense(f"{resampler}.proj_out", latents))
    identity = identity.reshape(-1, identity.shape[-1])

    words = prompt[0][mask]
    joined = norm("fuse_module.mlp1.layernorm", torch.cat([words, identity], dim=-1))
    joined = dense("fuse_module.mlp1.fc2", gelu(dense("fuse_module.mlp1.fc1", joined))) + words
    inner = norm("fuse_module.mlp2.layernorm", joined)
    inner = dense("fuse_module.mlp2.fc2", gelu(dense("fuse_module.mlp2.fc1", inner))) + joined
    fused = norm("fuse_module.layer_norm", inner)
    out = prompt.clone()
    out[0][mask] = fused
    return out


@pytest.fixture
def state(tiny_weights):
    file = tiny_weights("photomaker-v2") / "PhotoMaker-V2" / FILE
    return torch.load(file, weights_only=True)["id_encoder"]


@torch.no_grad()
def test_the_encoder_follows_its_equations(state):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(3, 3, 28, 28, generator=generator)
    faces = torch.randn(3, 512, generator=generator)
    prompt = torch.randn(1, 77, 64, generator=generator)
    mask = torch.zeros(77, dtype=torch.bool)
    mask[5:11] = True
    found = encoder_of(state, "here")(pixels, faces, prompt, mask)
    expected = encoded(state, pixels, faces, prompt, mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert torch.equal(found[0][~mask], prompt[0][~mask])
    assert not torch.equal(found[0][mask], prompt[0][mask])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fuse_module.mlp2.fc2.bias"), r"missing fuse_module\.mlp2\.fc2"),
        (lambda state: state.pop("visual_projection_2.weight"), r"no 'visual_projection_2"),
        (lambda state: state.update(extra=torch.zeros(1)), r"unknown extra"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(state, change, message):
    changed = dict(state)
    change(changed)
    with pytest.raises(ValueError, match=message):
        encoder_of(changed, "here")


@torch.no_grad()
def test_the_image_is_that_of_the_official_loop(
    tiny_weights, tiny_method, request_of, photograph, state
):
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from insightface.app.common import Face
    from insightface.model_zoo import get_model
    from transformers import CLIPImageProcessor

    root = tiny_weights("photomaker-v2")
    method = tiny_method("photomaker-v2", num_inference_steps=STEPS)
    pipe = StableDiffusionXLPipeline.from_pretrained(
        root / "stable-diffusion-xl-base-1.0", add_watermarker=False
    )
    lora = torch.load(root / "PhotoMaker-V2" / FILE, weights_only=True)["lora_weights"]
    pipe.load_lora_weights(lora, adapter_name="photomaker")
    pipe.fuse_lora()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)

    pictures = [photograph(0), photograph(1)]
    detector, recogniser = (
        get_model(str(root / "buffalo_l" / name), providers=["CPUExecutionProvider"])
        for name in ("det_10g.onnx", "w600k_r50.onnx")
    )
    detector.prepare(-1, input_size=(640, 640), det_thresh=0.5)
    boxes, faces = [], []
    for picture in pictures:
        bgr = np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])
        found, landmarks = detector.detect(bgr)
        boxes.append(tuple(found[0, :4].tolist()))
        faces.append(torch.from_numpy(recogniser.get(bgr, Face(kps=landmarks[0]))))

    # "a man" in letters: start, a, m, a, n, where n ends the class word and stands four times.
    tokenizer = pipe.tokenizer
    ids = tokenizer("a man in the rain").input_ids
    ids = [*ids[:4], *[ids[4]] * 4, *ids[5:]]
    ids += [tokenizer.pad_token_id] * (77 - len(ids))
    mask = torch.zeros(77, dtype=torch.bool)
    mask[4:8] = True
    answers = [
        encoder(torch.tensor([ids]), output_hidden_states=True)
        for encoder in (pipe.text_encoder, pipe.text_encoder_2)
    ]
    prompt = torch.cat([answer.hidden_states[-2] for answer in answers], dim=-1)
    processor = CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    pixels = processor(pictures, return_tensors="pt").pixel_values
    stacked = encoded(state, pixels, torch.stack(faces), prompt, mask)

    alone, none, pooled, pooled_none = pipe.encode_prompt(
        prompt="a man in the rain", negative_prompt=method.recipe.settings["negative_prompt"]
    )
    sizes = torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]] * 2, dtype=torch.float32)
    pipe.scheduler.set_timesteps(STEPS)
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    latents = latents * pipe.scheduler.init_noise_sigma
    for step, time in enumerate(pipe.scheduler.timesteps):
        # 20 % of 3 steps is 0: the first alone sees the prompt without the identity.
        text, extra = (alone, pooled) if step <= 0 else (stacked, answers[1][0])
        both = pipe.scheduler.scale_model_input(torch.cat([latents] * 2), time)
        noise = pipe.unet(
            both,
            time,
            encoder_hidden_states=torch.cat([none, text]),
            added_cond_kwargs={"text_embeds": torch.cat([pooled_none, extra]), "time_ids": sizes},
        ).sample
        without, with_text = noise.chunk(2)
        latents = pipe.scheduler.step(
            without + 5.0 * (with_text - without), time, latents
        ).prev_sample
    decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    expected = ((decoded[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy() * 255).round()

    references = tuple(
        Reference(image=picture, sha256=str(index), face_box=box, class_word="man")
        for index, (picture, box) in enumerate(zip(pictures, boxes, strict=True))
    )
    request = request_of(references=references, prompt="a man in the rain")
    (image,) = method.generate([request])
    # The equations above sum in another order: one level of 255.
    np.testing.assert_allclose(np.asarray(image, float), expected, atol=1)


def test_a_class_word_beyond_the_end_of_the_prompt_is_a_failure(tiny_method, request_of):
    request = request_of(prompt="x " * 80 + "man")
    (answer,) = tiny_method("photomaker-v2").generate([request])
    assert isinstance(answer, Failure)
    assert answer.reason == "prompt_too_long"
    assert "do not fit into 77 tokens" in answer.detail


def test_a_lora_of_other_layers_is_refused(tiny_weights, tmp_path):
    from idbench.methods.recipes.method import DiffusersMethod

    root = tiny_weights("photomaker-v2")
    groups = torch.load(root / "PhotoMaker-V2" / FILE, weights_only=True)
    name = next(iter(groups["lora_weights"]))
    for side in ("down", "up"):
        key = name.replace("down.weight", f"{side}.weight")
        groups["lora_weights"][key.replace("to_q", "to_x")] = groups["lora_weights"].pop(key)
    torch.save(groups, tmp_path / FILE)
    method = DiffusersMethod(recipe="photomaker-v2", weights=root, folders={"adapter": tmp_path})
    layers = len(groups["lora_weights"]) // 2
    message = rf"a LoRA of {layers} layers, of which {layers - 1} are in the UNet"
    with pytest.raises(ValueError, match=message):
        method.pipeline  # noqa: B018
