"""The three stages on a small random model, read from files as the real one is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from idbench.methods.editedid.attention import gated
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.gate import AttentionalGate
from idbench.methods.editedid.pipeline import EditedIDPipeline, FacePair
from idbench.methods.editedid.text import Prompts, prompts_for
from idbench.methods.editedid.weights import load_pipeline

FAST = EditedIDConfig(num_inference_steps=3, null_mode="prompt")
OPTIMISED = EditedIDConfig(num_inference_steps=2, null_inner_steps=2)
GLASSES = prompts_for(["face"], ["glasses"])


def picture(seed, side=64):
    """Smooth coloured noise: a random model is far off on white noise, and so are its inverses."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def square(*edges, side=64):
    mask = np.zeros((side, side), dtype=bool)
    top, bottom, left, right = edges
    mask[top:bottom, left:right] = True
    return mask


FACE, BAND = square(8, 56, 8, 56), square(16, 32, 8, 56)
NOTHING = square(0, 0, 0, 0)


def pair(seed=0, mask_o=FACE, mask_i=BAND, prompts=GLASSES):
    return FacePair(
        original=picture(2 * seed),
        intermediate=picture(2 * seed + 1),
        mask_o=mask_o,
        mask_i=mask_i,
        prompts=prompts,
    )


def final(output):
    return output.entangled.states[-1]


@pytest.fixture(scope="module")
def reference(pipeline):
    return pipeline([pair()], FAST, reconstructions=True)


def test_restores_a_pair(reference):
    assert [image.size for image in reference.images] == [(64, 64)]
    assert len(reference.entangled.states) == FAST.num_inference_steps + 1
    assert np.asarray(reference.images[0]).std() > 0
    (rebuilt,) = reference.reconstructions
    assert [image.size for image in rebuilt] == [(64, 64), (64, 64)]


def test_all_rows_start_from_one_latent(reference):
    start = reference.entangled.states[0][0]
    assert torch.equal(start[0], start[1])
    assert torch.equal(start[0], start[2])


def test_runs_are_deterministic(pipeline, reference):
    again = pipeline([pair()], FAST)
    assert torch.equal(final(again), final(reference))
    assert again.images[0].tobytes() == reference.images[0].tobytes()


def test_sources_do_not_see_the_gate(pipeline, reference):
    """Rows o and i are those of a run without gate, swap and blend, bit for bit."""
    plain = replace(FAST, self_gate="none", cross_swap=False, blend="none")
    ungated = pipeline([pair()], plain)
    for ours, theirs in zip(reference.entangled.states, ungated.entangled.states, strict=True):
        assert torch.equal(ours[:, :2], theirs[:, :2])
    assert not torch.equal(final(reference)[:, 2], final(ungated)[:, 2])


@pytest.mark.parametrize("config", [FAST, OPTIMISED], ids=["fast", "optimised"])
def test_target_follows_the_original_where_all_is_taken_from_it(pipeline, config):
    """Same prompt, no token swap, no element of the edit: z_t is z_o at every step."""
    same = Prompts(elements_o=(), elements_i=())
    config = replace(config, blend="none")
    output = pipeline([pair(mask_o=BAND, mask_i=NOTHING, prompts=same)], config)
    for state in output.entangled.states:
        scale = state.abs().max()
        torch.testing.assert_close(state[:, 2] / scale, state[:, 0] / scale, atol=1e-5, rtol=0)


def test_outside_the_elements_the_latents_are_those_of_the_edited_image(pipeline):
    output = pipeline([pair(mask_o=square(16, 24, 16, 24), mask_i=square(24, 32, 16, 24))], FAST)
    state = final(output)[0]
    # The masks are cells (2, 2) and (3, 2) of 8 x 8, grown by one.
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[1:5, 1:4] = True
    assert torch.equal(state[2][:, ~inside], state[1][:, ~inside])
    assert not torch.equal(state[2][:, inside], state[1][:, inside])


@pytest.mark.parametrize("config", [FAST, OPTIMISED], ids=["fast", "optimised"])
def test_a_batch_of_faces_equals_single_runs(pipeline, config):
    """And chunks do not matter."""
    pairs = [pair(0), pair(1, prompts=prompts_for(["face"], ["red cap"]))]
    together = final(pipeline(pairs, config))
    for index, one in enumerate(pairs):
        alone = final(pipeline([one], config))[0]
        scale = alone.abs().max().clamp(min=1.0)
        torch.testing.assert_close(together[index] / scale, alone / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"self_gate": "map_query"},
        {"self_gate": "map_key"},
        {"gate_branches": "uncond", "self_layers": ("down",)},
        {"self_layers": ("down", "mid", "up")},
        {"cross_rest": "original"},
        {"renormalize_cross": True},
        {"blend": "attention"},
        {"blend": "none"},
        {"blend_base": "original"},
        {"target_null": "intermediate"},
        {"target_null": "mean"},
        {"guidance_reconstruction": 1.0},
        {"mask_resize": "area_any"},
        {"overlap": (0.2, 0.8)},
        {"solver_variant": "heun"},
    ],
    ids=str,
)
def test_every_setting_moves_the_target(pipeline, baseline_states, settings):
    config, state = baseline_states
    moved = final(pipeline([THIN_PAIR], replace(config, **settings)))
    assert torch.isfinite(moved).all()
    assert (moved - state)[:, 2].abs().max() > 1e-4 * state.abs().max()


# A bar of three pixels, less than half a cell, beside what the two images share.
THIN_PAIR = pair(
    mask_o=square(24, 40, 16, 19) | square(24, 40, 24, 48), mask_i=square(24, 32, 24, 48)
)


@pytest.fixture(scope="module")
def baseline_states(pipeline):
    config = EditedIDConfig(num_inference_steps=3, null_inner_steps=1, guidance_scale=3.0)
    return config, final(pipeline([THIN_PAIR], config))


def test_ablations_are_what_the_paper_takes_away(pipeline):
    aligned = pipeline([pair()], FAST)
    unaligned = pipeline([pair()], FAST.ablated("alignment"))
    start = unaligned.entangled.states[0][0]
    assert unaligned.inversion.weights == []
    assert not torch.equal(start[0], start[1])
    assert torch.equal(start[2], start[0])  # the target starts from the original
    ddim = pipeline([pair()], FAST.ablated("disentanglement"))
    assert ddim.timesteps == [667, 334, 1]
    assert aligned.timesteps == [667, 501, 251]
    loose = pipeline([pair()], FAST.ablated("entanglement"))
    only_cross = pipeline([pair()], replace(FAST, self_gate="none", blend="none"))
    assert torch.equal(final(loose), final(only_cross))


def test_null_text_brings_reconstructions_closer(pipeline):
    """With guidance the reconstruction strays from the inversion; optimisation takes it back."""
    config = EditedIDConfig(num_inference_steps=2, guidance_scale=2.0, null_inner_steps=6)
    output = pipeline([pair()], config)
    for losses in output.null_text.losses:
        assert losses[-1] < losses[0]


def test_processors_are_those_from_before_afterwards(pipeline):
    before = {name: type(p) for name, p in pipeline.unet.attn_processors.items()}
    with pytest.raises(ZeroDivisionError), gated(pipeline.unet, _gate(pipeline)):
        raise ZeroDivisionError
    assert {name: type(p) for name, p in pipeline.unet.attn_processors.items()} == before


def _gate(pipeline, faces=1, config=FAST, branches=2):
    encoded = pipeline.encode([pair(seed) for seed in range(faces)], config)
    return AttentionalGate(
        config, encoded.mask_o, encoded.mask_i, encoded.swaps, latent_size=8, branches=branches
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"original": picture(0, side=32)}, "original of face 0 must be RGB of 64 x 64"),
        ({"intermediate": picture(0).convert("L")}, "intermediate of face 0 must be RGB"),
        ({"mask_o": NOTHING, "mask_i": NOTHING}, "both masks of face 0 are empty"),
        ({"prompts": replace(GLASSES, target="a face")}, "'glasses' must be literal words"),
        ({"prompts": replace(GLASSES, elements_o=("face", "glasses"))}, "literal words|listed"),
    ],
)
def test_unusable_pairs_are_refused(pipeline, changes, message):
    with pytest.raises(ValueError, match=message):
        pipeline([replace(pair(), **changes)], FAST)


def test_saved_and_loaded_it_is_the_same(pipeline, reference, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = EditedIDPipeline.from_pretrained(tmp_path)
    assert torch.equal(final(loaded([pair()], FAST)), final(reference))


def test_a_plain_stable_diffusion_folder_gives_its_noise_schedule(tiny_model):
    loaded = EditedIDPipeline.from_pretrained(tiny_model)
    theirs = StableDiffusionPipeline.from_pretrained(tiny_model, safety_checker=None)
    assert torch.allclose(
        loaded.scheduler.alphas_cumprod.float(), theirs.scheduler.alphas_cumprod, atol=1e-6
    )


@pytest.mark.parametrize("fault", ["missing", "unexpected"])
def test_checkpoints_are_read_strictly(tiny_model, tmp_path, fault):
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    if fault == "missing":
        del state["conv_in.weight"]
    else:
        state["surplus.weight"] = torch.zeros(1)
    save_file(state, file)
    with pytest.raises(ValueError, match=f"{fault} keys: (conv_in|surplus).weight"):
        load_pipeline(folder)


def test_pickled_weights_are_not_read(tiny_model, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_pipeline(folder)


@pytest.mark.parametrize("config", [FAST, OPTIMISED], ids=["fast", "optimised"])
def test_half_precision_keeps_latents_in_float32(tiny_model, config):
    pipeline = load_pipeline(tiny_model, dtype=torch.bfloat16)
    output = pipeline([pair()], replace(config, guidance_scale=1.5))
    assert all(state.dtype == torch.float32 for state in output.entangled.states)
    assert torch.isfinite(final(output)).all()
    start = output.entangled.states[0][0]
    assert torch.equal(start[0], start[1])
