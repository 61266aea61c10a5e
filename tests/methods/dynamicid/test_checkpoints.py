import os
import pickle

import pytest
import torch

from idbench.methods.common.tiny_sd15 import tiny_unet
from idbench.methods.dynamicid.checkpoints import (
    build_expression_network,
    build_keypoint_encoder,
    build_projection,
    build_reconfigurator,
    build_saa,
    read_saa,
    read_state_dict,
    save_saa,
)
from idbench.methods.dynamicid.injection import install_saa
from idbench.methods.dynamicid.tiny import tiny_projection
from idbench.methods.dynamicid.weights import (
    SOURCES,
    DynamicIDFiles,
    MissingWeightsError,
    keypoint_file,
)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture
def states(tiny_files):
    return read_saa(tiny_files.saa)


def test_saa_bin_has_two_parts(states):
    assert "proj.0.weight" in states.projection
    assert "1.to_k_ip.weight" in states.attention


@pytest.mark.parametrize(
    ("projection", "attention"),
    [("proj_module", "adapter_modules"), ("image_proj", "ip_adapter")],
)
def test_other_names_of_the_parts_are_known(tmp_path, states, projection, attention):
    path = tmp_path / "SAA.bin"
    torch.save({projection: states.projection, attention: states.attention}, path)
    found = read_saa(path)
    assert equal(found.projection, states.projection)
    assert equal(found.attention, states.attention)


def test_what_is_saved_is_read_again(tmp_path, states):
    torch.manual_seed(0)
    projection, modules = tiny_projection(), install_saa(tiny_unet(), rank=4)
    path = tmp_path / "SAA.safetensors"
    save_saa(path, projection, modules, {"step": "3"})
    found = read_saa(path)
    assert equal(found.projection, projection.state_dict())
    assert equal(found.attention, modules.state_dict())
    assert [entry.name for entry in tmp_path.iterdir()] == ["SAA.safetensors"]


@pytest.mark.parametrize("part", ["proj_module", "SAA_module"])
def test_a_missing_part_is_named(tmp_path, states, part):
    content = {"proj_module": states.projection, "SAA_module": states.attention}
    del content[part]
    torch.save(content, tmp_path / "SAA.bin")
    with pytest.raises(ValueError, match=part):
        read_saa(tmp_path / "SAA.bin")


def test_a_third_part_is_refused(tmp_path, states):
    content = {"proj_module": states.projection, "SAA_module": states.attention, "optimizer": {}}
    content["optimizer"] = {"lr": torch.zeros(1)}
    torch.save(content, tmp_path / "SAA.bin")
    with pytest.raises(ValueError, match="optimizer"):
        read_saa(tmp_path / "SAA.bin")


BUILDERS = {
    "projection": lambda state: build_projection(state, "SAA.bin"),
    "attention": lambda state: build_saa(tiny_unet(), state, "SAA.bin"),
    "imr": lambda state: build_reconfigurator(state, "IMR.bin"),
    "keypoints": lambda state: build_keypoint_encoder(state, "key_point_encoder.bin"),
    "expression": lambda state: build_expression_network(state, "best_model.pth"),
}
ANY_KEY = {
    "projection": "norm.bias",
    "attention": "1.to_k_ip.weight",
    "imr": "entangleNet.0.2.3.weight",
    "keypoints": "blocks.3.1.conv_block.1.running_mean",
    "expression": "fc2.bias",
}


@pytest.fixture
def state_of(tiny_files, states):
    return {
        "projection": states.projection,
        "attention": states.attention,
        "imr": read_state_dict(tiny_files.imr),
        "keypoints": read_state_dict(tiny_files.keypoints),
        "expression": read_state_dict(tiny_files.expression, wrapper="model_state_dict"),
    }


@pytest.mark.parametrize("kind", BUILDERS)
def test_every_tensor_arrives(kind, state_of):
    module = BUILDERS[kind](dict(state_of[kind]))
    assert equal(dict(module.state_dict()), state_of[kind])


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_missing_key_is_named(kind, state_of):
    state = dict(state_of[kind])
    del state[ANY_KEY[kind]]
    with pytest.raises(ValueError, match=f"missing .*{ANY_KEY[kind]}"):
        BUILDERS[kind](state)


@pytest.mark.parametrize("kind", BUILDERS)
def test_an_unknown_key_is_named(kind, state_of):
    with pytest.raises(ValueError, match=r"unknown .*stray\.weight"):
        BUILDERS[kind]({**state_of[kind], "stray.weight": torch.zeros(2)})


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_wrong_shape_is_named(kind, state_of):
    key = ANY_KEY[kind]
    state = {**state_of[kind], key: torch.zeros(3, 3)}
    with pytest.raises(ValueError, match=key):
        BUILDERS[kind](state)


@pytest.mark.parametrize("kind", ["projection", "imr", "keypoints", "expression"])
def test_a_file_of_something_else_is_compared_with_the_published_layout(kind):
    with pytest.raises(ValueError, match=r"missing .* more; unknown .*weight"):
        BUILDERS[kind]({"weight": torch.zeros(2)})


def test_a_classifier_of_six_expressions_is_refused(state_of):
    state = dict(state_of["expression"])
    state["fc4.weight"], state["fc4.bias"] = state["fc4.weight"][:6], state["fc4.bias"][:6]
    with pytest.raises(ValueError, match="6 expressions"):
        build_expression_network(state, "best_model.pth")


class Hostile:
    def __reduce__(self):
        return (os.system, ("echo hostile",))


@pytest.mark.parametrize("read", [read_saa, read_state_dict])
def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path, read, capfd):
    path = tmp_path / "SAA.bin"
    with path.open("wb") as file:
        pickle.dump({"proj_module": Hostile()}, file, protocol=2)
    with pytest.raises(ValueError, match=r"SAA\.bin: not a file of plain tensors"):
        read(path)
    assert "hostile" not in capfd.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02"])
@pytest.mark.parametrize("name", ["SAA.bin", "SAA.safetensors"])
def test_a_damaged_file_is_refused(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        read_saa(path)


def test_values_that_are_no_tensors_are_named(tmp_path):
    torch.save({"weight": torch.zeros(1), "epoch": 3}, tmp_path / "IMR.bin")
    with pytest.raises(ValueError, match="no tensors: epoch"):
        read_state_dict(tmp_path / "IMR.bin")


@pytest.mark.parametrize(
    ("imr", "present", "expected"),
    [
        ("IMR.bin", "key_point_encoder.bin", "key_point_encoder.bin"),
        ("IMR_2000.bin", "keypoint_encoder_2000.bin", "keypoint_encoder_2000.bin"),
        ("IMR.bin", None, "key_point_encoder.bin"),
        ("motion.safetensors", "keypoint_encoder.safetensors", "keypoint_encoder.safetensors"),
    ],
)
def test_the_key_point_encoder_lies_beside_the_imr(tmp_path, imr, present, expected):
    if present:
        (tmp_path / present).touch()
    assert keypoint_file(tmp_path / imr) == tmp_path / expected


@pytest.mark.parametrize("key", SOURCES)
def test_an_absent_file_is_named_with_the_way_to_get_it(tmp_path, key):
    files = DynamicIDFiles.in_folder(tmp_path)
    with pytest.raises(MissingWeightsError) as caught:
        files.require(key)
    message = str(caught.value)
    assert str(getattr(files, key)) in message
    assert "download" in message
    assert SOURCES[key].licence in message
    assert f"{key}=PATH" in message


def test_chosen_places_win_over_the_folder(tmp_path):
    files = DynamicIDFiles.in_folder(tmp_path, imr=tmp_path / "mine" / "IMR.safetensors")
    assert files.imr == tmp_path / "mine" / "IMR.safetensors"
    assert files.keypoints == tmp_path / "mine" / "key_point_encoder.safetensors"
    assert files.saa == tmp_path / "dynamicid" / "SAA.bin"


def test_every_file_that_moves_a_pixel_is_digested(tiny_files):
    names = set(tiny_files.digested(["base", "face_models", "saa"]))
    assert "saa" in names
    assert {"base/unet/diffusion_pytorch_model.safetensors", "base/unet/config.json"} <= names
    assert {"face_models/det_10g.onnx", "face_models/w600k_r50.onnx"} <= names
    assert not any(name.startswith("imr") for name in names)
