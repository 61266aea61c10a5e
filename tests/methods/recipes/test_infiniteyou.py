"""InfiniteYou against the official loop, written out with the parts of diffusers and facexlib."""

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, layer_norm, linear

from idbench.methods.protocol import Reference
from idbench.methods.recipes.infuse import resampler_of

STEPS, SIDE = 2, 64
FOLDER = "infu_flux_v1.0/aes_stage2"

# What diffusers deprecates of itself, and scikit-image in insightface.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning"),
]


def resampled(state, x):
    """The resampler by its equations, one head of 64."""

    def dense(name, x):
        return linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name, x):
        return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    latents, context = state["latents"].repeat(len(x), 1, 1), dense("proj_in", x)
    for layer in range(4):
        attention, forward = f"layers.{layer}.0", f"layers.{layer}.1"
        normed, queries = norm(f"{attention}.norm1", context), norm(f"{attention}.norm2", latents)
        both = torch.cat([normed, queries], dim=1)
        key, value = dense(f"{attention}.to_kv", both).chunk(2, dim=-1)
        query = dense(f"{attention}.to_q", queries)
        weights = (query @ key.transpose(1, 2) / 64**0.5).softmax(dim=-1)
        latents = latents + dense(f"{attention}.to_out", weights @ value)
        inner = gelu(dense(f"{forward}.1", norm(f"{forward}.0", latents)))
        latents = latents + dense(f"{forward}.3", inner)
    return norm("norm_out", dense("proj_out", latents))


@pytest.fixture
def state(tiny_weights):
    file = tiny_weights("infiniteyou-aes") / "InfiniteYou" / FOLDER / "image_proj_model.bin"
    return torch.load(file, weights_only=True)["image_proj"]


@torch.no_grad()
def test_the_resampler_follows_its_equations(state):
    x = torch.randn(2, 1, 512, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        resampler_of(state, "here").of(x), resampled(state, x), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layers.2.1.3.weight"), r"missing layers\.2\.1\.3\.weight"),
        (lambda state: state.pop("latents"), r"not InfiniteYou's resampler; no 'latents'"),
        (lambda state: state.update(extra=torch.zeros(1)), r"unknown extra"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(state, change, message):
    changed = dict(state)
    change(changed)
    with pytest.raises(ValueError, match=message):
        resampler_of(changed, "here")


@torch.no_grad()
def test_the_image_is_that_of_the_official_loop(
    tiny_weights, tiny_method, request_of, photograph, state
):
    from diffusers import FluxControlNetModel, FluxControlNetPipeline
    from facexlib.recognition.arcface_arch import Backbone
    from insightface.model_zoo import get_model
    from insightface.utils import face_align

    root = tiny_weights("infiniteyou-aes")
    control = FluxControlNetModel.from_pretrained(root / "InfiniteYou" / FOLDER / "InfuseNetModel")
    pipe = FluxControlNetPipeline.from_pretrained(root / "flux-dev", controlnet=control)
    picture = photograph(0)
    bgr = np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])
    detector = get_model(
        str(root / "antelopev2" / "scrfd_10g_bnkps.onnx"), providers=["CPUExecutionProvider"]
    )
    detector.prepare(-1, input_size=(640, 640), det_thresh=0.5)
    boxes, landmarks = detector.detect(bgr)
    crop = torch.from_numpy(face_align.norm_crop(bgr, landmark=landmarks[0], image_size=112))
    arcface = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se").eval()
    arcface.load_state_dict(
        torch.load(root / "facexlib" / "recognition_arcface_ir_se50.pth", weights_only=True)
    )
    embedding = arcface((2 * (crop[None].permute(0, 3, 1, 2) / 255) - 1).contiguous())
    assert embedding.norm().item() == pytest.approx(1, abs=1e-4)
    tokens = resampled(state, embedding.reshape(1, 1, 512))

    prompt, pooled, text_ids = pipe.encode_prompt(prompt="a person in the rain", prompt_2=None)
    generator = torch.Generator().manual_seed(3)
    black = pipe.image_processor.preprocess(np.zeros((1, SIDE, SIDE, 3), np.float32))
    encoded = pipe.vae.encode(black).latent_dist.sample(generator)
    encoded = (encoded - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    encoded = pipe._pack_latents(encoded, 1, 4, 8, 8)
    latents, image_ids = pipe.prepare_latents(
        1, 4, SIDE, SIDE, torch.float32, torch.device("cpu"), generator
    )
    # 16 tokens: mu on the line through (256, 0.5) and (4096, 1.15).
    mu = 0.5 + (1.15 - 0.5) / (4096 - 256) * (16 - 256)
    pipe.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / STEPS, STEPS), mu=mu)
    for time in pipe.scheduler.timesteps:
        common = {"timestep": time.expand(1) / 1000, "pooled_projections": pooled}
        double, single = pipe.controlnet(
            hidden_states=latents,
            controlnet_cond=encoded,
            conditioning_scale=1.0,
            guidance=torch.ones(1),  # not that of the transformer
            encoder_hidden_states=tokens,  # in place of the prompt
            txt_ids=torch.zeros(tokens.shape[1], 3),
            img_ids=image_ids,
            return_dict=False,
            **common,
        )
        noise = pipe.transformer(
            hidden_states=latents,
            guidance=torch.tensor([3.5]),
            encoder_hidden_states=prompt,
            controlnet_block_samples=double,
            controlnet_single_block_samples=single,
            txt_ids=text_ids,
            img_ids=image_ids,
            **common,
        ).sample
        latents = pipe.scheduler.step(noise, time, latents).prev_sample
    latents = pipe._unpack_latents(latents, SIDE, SIDE, pipe.vae_scale_factor)
    latents = latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    decoded = pipe.vae.decode(latents).sample
    expected = ((decoded[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy() * 255).round()

    reference = Reference(image=picture, sha256="0", face_box=tuple(boxes[0, :4].tolist()))
    (image,) = tiny_method("infiniteyou-aes").generate([request_of(references=(reference,))])
    # The resampler above sums in another order: one level of 255.
    np.testing.assert_allclose(np.asarray(image, float), expected, atol=1)


def test_the_identity_moves_pixels_through_the_controlnet_alone(tiny_method, request_of):
    """At scale 0 another face gives the same image; at 1 it is another one."""
    off = tiny_method("infiniteyou-aes", settings={"controlnet_conditioning_scale": 0.0})
    on = tiny_method("infiniteyou-aes")
    requests = [request_of(), request_of(references=request_of(people=2).references[1:])]
    without, with_identity = off.generate(requests), on.generate(requests)
    assert without[0].tobytes() == without[1].tobytes()
    assert with_identity[0].tobytes() != with_identity[1].tobytes()
    difference = np.asarray(with_identity[0], float) - np.asarray(without[0], float)
    assert np.abs(difference).max() > 20
