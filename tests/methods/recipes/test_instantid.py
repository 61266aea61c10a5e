"""InstantID against the official loop, written out with the parts of diffusers."""

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, layer_norm, linear

from idbench.methods.protocol import Reference
from idbench.methods.recipes.landmarks import draw_landmarks, fitted

STEPS, SIDE = 2, 64

# What numpy 2 deprecates is in schedulers; what scikit-image deprecates in insightface.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning"),
]

POINTS = np.array([[40.0, 40.0], [90.0, 40.0], [65.0, 70.0], [45.0, 100.0], [85.0, 100.0]])


class TestLandmarks:
    def test_points_have_the_official_colours_and_the_rest_is_black(self):
        picture = np.asarray(draw_landmarks(POINTS, (128, 160)))
        assert picture.shape == (160, 128, 3)
        colours = [picture[int(y), int(x)].tolist() for x, y in POINTS]
        assert colours == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255]]
        assert picture[5, 5].tolist() == [0, 0, 0]
        assert picture[40, 65].tolist() == [0, 0, 0]  # between the eyes nothing is drawn

    def test_bars_to_the_nose_are_darkened_to_sixty_percent(self):
        picture = np.asarray(draw_landmarks(POINTS, (128, 160)))
        # Halfway from the left eye to the nose: 0.6 x 255 = 153.
        assert picture[55, 52].tolist() == [153, 0, 0]
        assert picture[55, 77].tolist() == [0, 153, 0]
        # 10 pixels beside the bar, which is 4 wide on each side.
        assert picture[45, 62].tolist() == [0, 0, 0]

    def test_a_point_is_a_disc_of_radius_ten(self):
        picture = np.asarray(draw_landmarks(POINTS, (128, 160)))
        assert picture[40, 30].tolist() == [255, 0, 0]
        assert picture[40, 29].tolist() == [0, 0, 0]

    # By hand: 200 x 100 into 100 x 100 halves it and leaves 25 above and below.
    def test_a_whole_picture_is_fitted_into_the_middle(self):
        points = np.array([[0.0, 0.0], [200.0, 100.0], [100.0, 50.0]])
        placed = fitted(points, (200, 100), (100, 100))
        assert placed.tolist() == [[0.0, 25.0], [100.0, 75.0], [50.0, 50.0]]


def resampled(state, x):
    """The resampler of the file's `image_proj`, one head of 64, by its equations."""
    latents, context = state["latents"].repeat(len(x), 1, 1), linear_of(state, "proj_in", x)
    for layer in range(4):
        attention, forward = f"layers.{layer}.0", f"layers.{layer}.1"
        normed, queries = (
            norm_of(state, f"{attention}.norm1", context),
            norm_of(state, f"{attention}.norm2", latents),
        )
        key, value = linear(
            torch.cat([normed, queries], dim=1), state[f"{attention}.to_kv.weight"]
        ).chunk(2, dim=-1)
        query = linear(queries, state[f"{attention}.to_q.weight"])
        weights = (query @ key.transpose(1, 2) / 64**0.5).softmax(dim=-1)
        latents = latents + linear(weights @ value, state[f"{attention}.to_out.weight"])
        inner = gelu(linear(norm_of(state, f"{forward}.0", latents), state[f"{forward}.1.weight"]))
        latents = latents + linear(inner, state[f"{forward}.3.weight"])
    return norm_of(state, "norm_out", linear_of(state, "proj_out", latents))


def linear_of(state, name, x):
    return linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def norm_of(state, name, x):
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def raw_embedding(folder, picture):
    """By insightface alone: the surest face, its landmarks and embedding."""
    from insightface.app.common import Face
    from insightface.model_zoo import get_model

    bgr = np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])
    detector, recogniser = (
        get_model(str(folder / name), providers=["CPUExecutionProvider"])
        for name in ("scrfd_10g_bnkps.onnx", "glintr100.onnx")
    )
    detector.prepare(-1, input_size=(640, 640), det_thresh=0.5)
    boxes, landmarks = detector.detect(bgr)
    return boxes[0, :4], landmarks[0], recogniser.get(bgr, Face(kps=landmarks[0]))


@pytest.fixture
def parts(tiny_weights):
    from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline

    root = tiny_weights("instantid")
    control = ControlNetModel.from_pretrained(root / "InstantID" / "ControlNetModel")
    pipe = StableDiffusionXLControlNetPipeline.from_pretrained(
        root / "stable-diffusion-xl-base-1.0", controlnet=control, add_watermarker=False
    )
    pipe.load_ip_adapter(
        root / "InstantID", subfolder=None, weight_name="ip-adapter.bin", image_encoder_folder=None
    )
    pipe.set_ip_adapter_scale(0.8)
    return root, pipe


@torch.no_grad()
def test_the_image_is_that_of_the_official_loop(parts, tiny_method, request_of, photograph):
    root, pipe = parts
    method = tiny_method("instantid")
    picture = photograph(0)
    box, landmarks, embedding = raw_embedding(root / "antelopev2", picture)
    file = torch.load(root / "InstantID" / "ip-adapter.bin", weights_only=True)
    identity = torch.from_numpy(embedding).reshape(1, 1, 512)
    identity = torch.cat([torch.zeros_like(identity), identity])
    tokens = resampled(file["image_proj"], identity)

    prompt, none, pooled, pooled_none = pipe.encode_prompt(
        prompt="a person in the rain", negative_prompt=method.recipe.settings["negative_prompt"]
    )
    text, pooled = torch.cat([none, prompt]), torch.cat([pooled_none, pooled])
    sizes = torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]] * 2, dtype=torch.float32)
    added = {"text_embeds": pooled, "time_ids": sizes}
    points = draw_landmarks(fitted(landmarks, picture.size, (SIDE, SIDE)), (SIDE, SIDE))
    control = torch.from_numpy(np.asarray(points) / 255).float().permute(2, 0, 1)[None]
    pipe.scheduler.set_timesteps(STEPS)
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    latents = latents * pipe.scheduler.init_noise_sigma
    for time in pipe.scheduler.timesteps:
        both = pipe.scheduler.scale_model_input(torch.cat([latents] * 2), time)
        down, middle = pipe.controlnet(
            both,
            time,
            encoder_hidden_states=tokens,  # in place of the prompt
            controlnet_cond=torch.cat([control] * 2),
            conditioning_scale=0.8,
            added_cond_kwargs=added,
            return_dict=False,
        )
        noise = pipe.unet(
            both,
            time,
            encoder_hidden_states=text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            added_cond_kwargs={**added, "image_embeds": [identity[:, None]]},
        ).sample
        without, with_text = noise.chunk(2)
        latents = pipe.scheduler.step(
            without + 5.0 * (with_text - without), time, latents
        ).prev_sample
    decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    expected = ((decoded[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy() * 255).round()

    reference = Reference(image=picture, sha256="0", face_box=tuple(box.tolist()))
    (image,) = method.generate([request_of(references=(reference,))])
    # The resampler above sums in another order: one level of 255.
    np.testing.assert_allclose(np.asarray(image, float), expected, atol=1)


def test_a_file_of_other_layers_is_refused(tiny_weights, tmp_path):
    import shutil

    from idbench.methods.recipes.method import DiffusersMethod

    root = tiny_weights("instantid")
    shutil.copytree(root / "InstantID", tmp_path / "InstantID")
    path = tmp_path / "InstantID" / "ip-adapter.bin"
    groups = torch.load(path, weights_only=True)
    groups["ip_adapter"].popitem()
    torch.save(groups, path)
    method = DiffusersMethod(
        recipe="instantid", weights=root, folders={"adapter": tmp_path / "InstantID"}
    )
    with pytest.raises(ValueError, match=r"ip-adapter\.bin: (not )?an IP-Adapter"):
        method.pipeline  # noqa: B018
