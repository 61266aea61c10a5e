"""Acceptance check 20: saved and loaded, and refused where it does not belong."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from idbench.methods.common.weight_sources import MissingWeightsError
from idbench.methods.flexip.adapter import FlexIPAdapter
from idbench.methods.flexip.checkpoints import CONFIG, WEIGHTS, load_adapter, save_adapter
from idbench.methods.flexip.config import FlexIPConfig
from idbench.methods.flexip.loading import load_pipeline
from idbench.methods.flexip.tiny import write_tiny_weights
from idbench.methods.flexip.weights import SOURCES, FlexIPFiles


@pytest.fixture
def folder(tiny_files, tmp_path):
    """A copy of the adapter's folder that a test may spoil."""
    return shutil.copytree(tiny_files.adapter, tmp_path / "adapter")


def edited(folder, **changes):
    file = folder / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def same(one, two):
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_saved_adapter_gives_the_same_latents(tiny_files, load, subjects, generator, tmp_path):
    pipeline = load()
    before = pipeline(["a cup"], subjects[:1], [generator(0)], decode=False).latents
    save_adapter(pipeline.adapter, tmp_path / "again")
    files = replace(tiny_files, adapter=tmp_path / "again")
    after = load_pipeline(files, pipeline.config)(
        ["a cup"], subjects[:1], [generator(0)], decode=False
    ).latents
    assert torch.equal(before, after)


def test_diffusers_loads_the_folder_as_any_other_model(tiny_files):
    ours = load_adapter(tiny_files.adapter)
    theirs, report = FlexIPAdapter.from_pretrained(tiny_files.adapter, output_loading_info=True)
    assert not any(report.values())
    assert same(ours, theirs)
    assert dict(ours.config).items() <= dict(theirs.config).items()


def test_what_diffusers_saves_is_loaded(tiny_files, tmp_path):
    adapter = load_adapter(tiny_files.adapter)
    adapter.save_pretrained(tmp_path)
    assert same(load_adapter(tmp_path), adapter)


def test_the_weights_file_says_what_it_is_by_itself(tiny_files):
    with safe_open(tiny_files.adapter / WEIGHTS, "pt") as file:
        settings = json.loads(file.metadata()["flexip"])
    assert settings["dim"] == 64
    assert settings["clip"] == "OpenCLIP ViT-H/14"
    assert settings["layers"]


def test_the_same_adapter_gives_the_same_bytes(tiny_files, tmp_path):
    content = (tiny_files.adapter / WEIGHTS).read_bytes()
    for number in range(8):  # the library's own order is random
        save_adapter(load_adapter(tiny_files.adapter), tmp_path / str(number))
        assert (tmp_path / str(number) / WEIGHTS).read_bytes() == content


def test_half_precision_files_are_read(tiny_files, folder):
    state = {name: value.bfloat16() for name, value in load_file(folder / WEIGHTS).items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    adapter = load_adapter(folder)
    assert adapter.dtype == torch.float32
    expected = load_adapter(tiny_files.adapter).state_dict()
    for name, value in adapter.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-2, rtol=1e-2)


def test_other_widths_are_refused_by_name(folder):
    edited(folder, dim=128, cross_attention_dim=128)
    with pytest.raises(ValueError, match=r"wrong shape.*instead of"):
        load_adapter(folder)


def test_missing_and_unknown_keys_are_named(folder):
    state = load_file(folder / WEIGHTS)
    state["surplus"] = state.pop("preservation.cls_in.bias")
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing preservation.cls_in.bias; unknown surplus"):
        load_adapter(folder)


def test_a_damaged_file_is_refused(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged or no safetensors"):
        load_adapter(folder)


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_a_folder_without_a_file_is_refused(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        load_adapter(folder)


def test_a_configuration_of_something_else_is_refused(folder):
    edited(folder, _class_name="UNet2DConditionModel")
    with pytest.raises(ValueError, match="of UNet2DConditionModel, not of a FlexIP adapter"):
        load_adapter(folder)


def test_an_unknown_setting_is_refused(folder):
    edited(folder, temperature=1)
    with pytest.raises(ValueError, match="temperature"):
        load_adapter(folder)


@pytest.mark.parametrize("part", ["base", "clip", "dino"])
def test_an_adapter_of_another_encoder_is_refused_by_name(tiny_files, folder, part):
    edited(folder, **{part: "something else"})
    with pytest.raises(ValueError, match=f"made for {part} 'something else'.*{part}_name="):
        load_pipeline(replace(tiny_files, adapter=folder))
    accepted = FlexIPConfig(**{f"{part}_name": "something else"})
    assert load_pipeline(replace(tiny_files, adapter=folder), accepted)


def test_an_adapter_of_other_widths_of_encoders_is_refused(tiny_files, tmp_path):
    other = write_tiny_weights(tmp_path, patch_dim=20)
    with pytest.raises(ValueError, match="patches of the reference of width 20, but theirs is 24"):
        load_pipeline(replace(tiny_files, adapter=other.adapter))


def test_an_encoder_of_something_else_is_refused(tiny_files):
    with pytest.raises(ValueError, match="not a Dinov2Model"):
        load_pipeline(replace(tiny_files, dino=tiny_files.clip))


@pytest.mark.parametrize("key", SOURCES)
def test_an_absent_folder_is_named_with_the_way_to_get_it(tmp_path, key):
    files = FlexIPFiles.in_folder(tmp_path)
    with pytest.raises(MissingWeightsError, match=f"{key} is not at .*download.*{key}=PATH"):
        files.require(key)
