"""Recipes give the images that diffusers' documentation gives for the same files, bit for bit.

Each expectation is written with the library's own calls, as its guides show them.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from idbench.methods.protocol import Reference


@pytest.fixture
def load():
    """`from_pretrained` without the network."""

    def of(pipeline, folder, **options):
        pipe = pipeline.from_pretrained(folder, local_files_only=True, **options)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return of


def generator(seed=3):
    return torch.Generator("cpu").manual_seed(seed)


COMMON = {"num_inference_steps": 2, "width": 64, "height": 64}
PROMPT = "a person in the rain"


def assert_same(image, expected):
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def sd15(load, root, **options):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    folder = root / "stable-diffusion-v1-5"
    pipe = load(StableDiffusionPipeline, folder, safety_checker=None, **options)
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    return pipe


NEGATIVE = "monochrome, lowres, bad anatomy, worst quality, low quality"


def test_ip_adapter_plus(load, tiny_weights, tiny_method, request_of, photograph):
    root = tiny_weights("ip-adapter-plus-sd15")
    pipe = sd15(load, root)
    pipe.load_ip_adapter(
        root / "IP-Adapter", subfolder="models", weight_name="ip-adapter-plus_sd15.safetensors"
    )
    pipe.set_ip_adapter_scale(0.6)
    expected = pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        ip_adapter_image=photograph(0),
        guidance_scale=7.5,
        generator=generator(),
        **COMMON,
    ).images[0]
    (image,) = tiny_method("ip-adapter-plus-sd15").generate([request_of()])
    assert_same(image, expected)


# insightface aligns with what scikit-image deprecates.
@pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning")
@pytest.mark.parametrize(("version", "shortcut"), [("plus", False), ("plusv2", True)])
def test_ip_adapter_faceid_plus(
    load, tiny_weights, tiny_method, request_of, photograph, version, shortcut
):
    from insightface.app.common import Face
    from insightface.model_zoo import get_model
    from insightface.utils import face_align
    from transformers import CLIPVisionModelWithProjection

    root = tiny_weights(f"ip-adapter-faceid-{version}-sd15")
    clip = CLIPVisionModelWithProjection.from_pretrained(root / "CLIP-ViT-H-14-laion2B-s32B-b79K")
    pipe = sd15(load, root, image_encoder=clip)
    pipe.load_ip_adapter(
        root / "IP-Adapter-FaceID",
        subfolder=None,
        weight_name=f"ip-adapter-faceid-{version}_sd15.bin",
        image_encoder_folder=None,
    )
    pipe.set_ip_adapter_scale(0.7)

    picture = np.asarray(photograph(0))[:, :, ::-1]
    detector, recogniser = (
        get_model(str(root / "buffalo_l" / name), providers=["CPUExecutionProvider"])
        for name in ("det_10g.onnx", "w600k_r50.onnx")
    )
    detector.prepare(-1, input_size=(640, 640), det_thresh=0.5)
    boxes, landmarks = detector.detect(np.ascontiguousarray(picture))
    # The tiny detector finds faces of one size everywhere; the request says which one is meant.
    chosen = Reference(image=photograph(0), sha256="0", face_box=tuple(boxes[0, :4].tolist()))
    embedding = recogniser.get(picture, Face(kps=landmarks[0]))
    embedding = torch.from_numpy(embedding / np.linalg.norm(embedding))
    crop = face_align.norm_crop(np.asarray(photograph(0)), landmarks[0], image_size=224)

    ref = embedding.unsqueeze(0)[None, None]
    embeds = torch.cat([torch.zeros_like(ref), ref])
    tokens = pipe.prepare_ip_adapter_image_embeds(
        [Image.fromarray(crop)], None, torch.device("cpu"), 1, True
    )[0]
    projection = pipe.unet.encoder_hid_proj.image_projection_layers[0]
    projection.clip_embeds = tokens
    projection.shortcut = shortcut
    expected = pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        ip_adapter_image_embeds=[embeds],
        guidance_scale=7.5,
        generator=generator(),
        **COMMON,
    ).images[0]
    request = request_of(references=(chosen,))
    (image,) = tiny_method(f"ip-adapter-faceid-{version}-sd15").generate([request])
    assert_same(image, expected)


def test_redux(load, tiny_weights, tiny_method, request_of, photograph):
    from diffusers import FluxPipeline, FluxPriorReduxPipeline

    root = tiny_weights("flux-redux")
    pipe = load(FluxPipeline, root / "flux-dev")
    prior = load(
        FluxPriorReduxPipeline,
        root / "flux-redux-dev",
        text_encoder=pipe.text_encoder,
        text_encoder_2=pipe.text_encoder_2,
        tokenizer=pipe.tokenizer,
        tokenizer_2=pipe.tokenizer_2,
    )
    expected = pipe(
        guidance_scale=3.5, generator=generator(), **COMMON, **prior(photograph(0), prompt=PROMPT)
    ).images[0]
    (image,) = tiny_method("flux-redux").generate([request_of()])
    assert_same(image, expected)


def test_kontext(load, tiny_weights, tiny_method, request_of, photograph):
    from diffusers import FluxKontextPipeline

    pipe = load(FluxKontextPipeline, tiny_weights("flux-kontext") / "flux-kontext-dev")
    expected = pipe(
        image=photograph(0),
        prompt="add a red hat",
        guidance_scale=2.5,
        generator=generator(),
        max_area=64 * 64,
        _auto_resize=False,
        **COMMON,
    ).images[0]
    (image,) = tiny_method("flux-kontext").generate([request_of("edit_restoration", size=(64, 64))])
    assert_same(image, expected)
