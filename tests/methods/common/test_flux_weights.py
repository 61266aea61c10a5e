import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

from idbench.methods.common.flux_weights import load_transformer, to_diffusers, transformer_config

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def reference(golden):
    return golden("pulid_flux_tiny_forward")


@pytest.fixture(scope="module")
def original(reference):
    state = reference.part("sd.")
    return {key: value for key, value in state.items() if not key.startswith("pulid_ca.")}


def test_forward_notices_when_the_final_halves_are_not_swapped(reference, original):
    axes = tuple(reference.meta["flux"]["axes_dim"])
    transformer = FluxTransformer2DModel(**transformer_config(original, axes)).eval()
    state = to_diffusers(original)
    for name in ("weight", "bias"):
        scale, shift = state[f"norm_out.linear.{name}"].chunk(2)
        state[f"norm_out.linear.{name}"] = torch.cat((shift, scale))
    transformer.load_state_dict(state, strict=True)
    with torch.no_grad():
        out = transformer(
            hidden_states=reference["in.img"],
            encoder_hidden_states=reference["in.txt"],
            pooled_projections=reference["in.y"],
            timestep=reference["in.timesteps"],
            guidance=reference["in.guidance"],
            img_ids=reference["in.img_ids"].reshape(-1, *reference["in.img_ids"].shape[-2:])[0],
            txt_ids=reference["in.txt_ids"].reshape(-1, *reference["in.txt_ids"].shape[-2:])[0],
            return_dict=False,
        )[0]
    assert (out - reference["out.no_id"]).abs().max() > 1


def test_unknown_key_is_named(original):
    with pytest.raises(ValueError, match=r"double_blocks\.0\.img_extra\.weight"):
        to_diffusers({**original, "double_blocks.0.img_extra.weight": torch.zeros(1)})


def test_configuration_is_read_from_the_weights(reference, original):
    params = reference.meta["flux"]
    config = transformer_config(original, tuple(params["axes_dim"]))
    assert config["num_layers"] == params["depth"]
    assert config["num_single_layers"] == params["depth_single_blocks"]
    assert config["num_attention_heads"] == params["num_heads"]
    assert config["joint_attention_dim"] == params["context_in_dim"]
    assert config["pooled_projection_dim"] == params["vec_in_dim"]
    assert config["guidance_embeds"] == params["guidance_embed"]


def test_wrong_axes_are_refused(original):
    with pytest.raises(ValueError, match="must sum to the head width"):
        transformer_config(original)


def test_missing_key_is_refused(original, tmp_path):
    del_one = {key: value for key, value in original.items() if key != "txt_in.bias"}
    save_file(del_one, tmp_path / "flux.safetensors")
    axes = "must sum" if original["img_in.weight"].shape[0] < 128 else "context_embedder.bias"
    with pytest.raises(ValueError, match=axes):
        load_transformer(tmp_path / "flux.safetensors", torch.float32)
