"""Recipes run end to end on tiny checkpoints through the loaders of diffusers."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from idbench.methods.common.weight_sources import MissingWeightsError
from idbench.methods.protocol import Failure
from idbench.methods.recipes.catalogue import RECIPES
from idbench.methods.recipes.method import DiffusersMethod


def pixels(image):
    assert isinstance(image, Image.Image), image
    return np.asarray(image)


# Qwen's pipelines resize what they are shown to a megapixel.
SLOW = {"qwen-image-edit": pytest.mark.slow, "qwen-image-edit-plus": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW.get(n, ())) for n in RECIPES])
def test_every_recipe_makes_an_image_of_each_of_its_kinds(tiny_method, request_of, name):
    method = tiny_method(name)
    for kind in method.recipe.kinds:
        people = 2 if kind.startswith("multi") else 1
        (image,) = method.generate([request_of(kind, people=people)])
        assert image.size == (64, 64)
        assert pixels(image).std() > 0


def test_the_seed_is_all_the_randomness_there_is(tiny_method, request_of):
    method = tiny_method("omnigen")  # it draws from torch's own generator too
    torch.manual_seed(1)
    (first,) = method.generate([request_of()])
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    (again,) = method.generate([request_of()])
    torch.manual_seed(1)
    assert first.tobytes() == again.tobytes()
    assert torch.equal(state, torch.random.get_rng_state())


def test_an_edit_has_the_size_of_its_original(tiny_method, request_of, photograph):
    from idbench.methods.protocol import Edit

    picture = photograph(0).crop((0, 0, 250, 123))
    edit = Edit(original=picture, edited=picture, instruction="add a hat")
    request = request_of("edit_restoration", edit=edit, size=None)
    (image,) = tiny_method("instruct-pix2pix").generate([request])
    assert image.size == (250, 123)


def test_a_picture_without_a_face_is_a_failure(tiny_method, request_of):
    from idbench.methods.protocol import Reference

    black = Reference(image=Image.new("RGB", (128, 128)), sha256="black")
    (answer,) = tiny_method("ip-adapter-faceid-sd15").generate([request_of(references=(black,))])
    assert answer == Failure("no_face", "no face in reference 0")


def test_values_that_are_no_numbers_are_a_failure(arguments, request_of):
    method = DiffusersMethod(**arguments("sd15"))
    with torch.no_grad():
        method.pipeline.vae.decoder.conv_out.bias.fill_(float("nan"))
    (answer,) = method.generate([request_of()])
    assert answer.reason == "not_finite"


class TestOverrides:
    def test_they_reach_the_call_and_the_fingerprint(self, tiny_method, request_of):
        plain, guided = tiny_method("sd15"), tiny_method("sd15", guidance_scale=12.0)
        first, second = plain.generate([request_of()]) + guided.generate([request_of()])
        assert first.tobytes() != second.tobytes()
        assert plain.fingerprint() != guided.fingerprint()
        assert guided.fingerprint()["recipe"]["settings"]["guidance_scale"] == 12.0

    def test_the_scale_of_an_adapter_at_zero_is_the_base_model(self, tiny_method, request_of):
        """Same base, scheduler and settings: what is left is the text alone."""
        off = tiny_method("ip-adapter-sd15", adapter_scale=0.0)
        (image,) = off.generate([request_of()])
        (other,) = off.generate([request_of(references=request_of(people=2).references[1:])])
        (on,) = tiny_method("ip-adapter-sd15").generate([request_of()])
        assert image.tobytes() == other.tobytes() != on.tobytes()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"settings": {"stesp": 3}}, "recipe sd15 has no setting 'stesp'; it has num_inf"),
            ({"adapter_scale": 1.0}, "recipe sd15 has no IP-Adapter"),
            ({"width": 100}, "width must be a multiple of 8, got 100"),
            ({"folders": {"unet": "x"}}, "folders has unet; recipe sd15 has base"),
            ({"dtype": "int8"}, "dtype must be float32, bfloat16 or float16"),
        ],
    )
    def test_wrong_ones_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            DiffusersMethod(recipe="sd15", **options)

    def test_an_adapter_scale_is_in_range(self):
        with pytest.raises(ValueError, match=r"adapter_scale must be in \[0, 2\], got 3"):
            DiffusersMethod(recipe="ip-adapter-sd15", adapter_scale=3.0)


class TestFiles:
    def test_absent_ones_come_with_the_command_that_gets_them(self, tmp_path):
        method = DiffusersMethod(recipe="sdxl", weights=tmp_path)
        with pytest.raises(MissingWeightsError) as caught:
            method.fingerprint()
        message = str(caught.value)
        assert "hf download stabilityai/stable-diffusion-xl-base-1.0 --revision 4621659" in message
        assert 'folders={"base": "PATH"}' in message
        with pytest.raises(MissingWeightsError):
            method.pipeline  # noqa: B018, a property that loads

    def test_a_folder_may_lie_elsewhere(self, tiny_weights, tmp_path):
        where = tiny_weights("sd15") / "stable-diffusion-v1-5"
        here = DiffusersMethod(recipe="sd15", weights=tiny_weights("sd15"))
        there = DiffusersMethod(recipe="sd15", weights=tmp_path, folders={"base": where})
        assert here.fingerprint() == there.fingerprint()

    def test_their_bytes_are_the_fingerprint(self, tiny_weights, tmp_path):
        shutil.copytree(tiny_weights("sd15") / "stable-diffusion-v1-5", tmp_path / "base")
        unused = tmp_path / "base" / "unet" / "diffusion_pytorch_model.fp16.safetensors"
        before = DiffusersMethod(recipe="sd15", folders={"base": tmp_path / "base"}).fingerprint()
        unused.write_bytes(b"not read")
        same = DiffusersMethod(recipe="sd15", folders={"base": tmp_path / "base"}).fingerprint()
        path = tmp_path / "base" / "unet" / "config.json"
        path.write_text(path.read_text() + "\n")
        other = DiffusersMethod(recipe="sd15", folders={"base": tmp_path / "base"}).fingerprint()
        assert before == same
        assert before["weights"] != other["weights"]
        assert json.dumps(before)

    @pytest.mark.parametrize(
        ("file", "key", "message"),
        [
            (
                "unet/diffusion_pytorch_model",
                "conv_in.weight",
                "not a UNet2D.*missing conv_in.weight",
            ),
            ("text_encoder/model", "final_layer_norm.weight", "missing .*final_layer_norm.weight"),
        ],
    )
    def test_a_missing_weight_is_an_error(self, tiny_weights, tmp_path, file, key, message):
        shutil.copytree(tiny_weights("sd15") / "stable-diffusion-v1-5", tmp_path / "base")
        path = tmp_path / "base" / f"{file}.safetensors"
        state = load_file(path)
        (full,) = [name for name in state if name.endswith(key)]
        del state[full]
        save_file(state, path, {"format": "pt"})
        with pytest.raises(ValueError, match=message):
            DiffusersMethod(recipe="sd15", folders={"base": tmp_path / "base"}).pipeline  # noqa: B018

    @pytest.mark.parametrize("change", ["missing", "left over"])
    def test_an_adapter_for_another_network_is_an_error(self, tiny_weights, tmp_path, change):
        root = tiny_weights("ip-adapter-sd15")
        shutil.copytree(root / "IP-Adapter", tmp_path / "adapter")
        path = tmp_path / "adapter" / "models" / "ip-adapter_sd15.safetensors"
        state = load_file(path)
        layers = sorted(key for key in state if key.endswith("to_k_ip.weight"))
        if change == "missing":
            del state[layers[-1]]
        else:
            state["ip_adapter.99.to_k_ip.weight"] = state[layers[-1]].clone()
        save_file(state, path)
        method = DiffusersMethod(
            recipe="ip-adapter-sd15", weights=root, folders={"adapter": tmp_path / "adapter"}
        )
        with pytest.raises(ValueError, match=r"ip-adapter_sd15\.safetensors: (not )?an IP-Adapter"):
            method.pipeline  # noqa: B018


def test_a_dtype_other_than_float32_runs_to_the_end(arguments, request_of):
    method = DiffusersMethod(**arguments("ip-adapter-plus-face-sdxl", dtype="bfloat16"))
    (image,) = method.generate([request_of("multi_id", people=2)])
    assert pixels(image).std() > 0
    assert {part.dtype for part in (method.pipeline.unet, method.pipeline.vae)} == {torch.bfloat16}


def test_the_lora_of_faceid_is_part_of_it(arguments, request_of, tmp_path, tiny_weights):
    """Without the LoRA in the file, with all else equal, the image is another one."""
    root = tiny_weights("ip-adapter-faceid-sd15")
    file = root / "IP-Adapter-FaceID" / "ip-adapter-faceid_sd15.bin"
    groups = torch.load(file, weights_only=True)
    groups["ip_adapter"] = {k: v for k, v in groups["ip_adapter"].items() if "_lora." not in k}
    torch.save(groups, tmp_path / file.name)
    options = arguments("ip-adapter-faceid-sd15")
    with_lora = DiffusersMethod(**options)
    without = DiffusersMethod(**options, folders={"adapter": tmp_path})
    (first,), (second,) = with_lora.generate([request_of()]), without.generate([request_of()])
    assert first.tobytes() != second.tobytes()


def test_people_are_told_apart_by_their_places(tiny_method, request_of):
    """Two people who change places give another image: the masks are read."""
    method = tiny_method("ip-adapter-faceid-plusv2-sd15")
    request = request_of("multi_id", people=2)
    first, second = request.references
    swapped = (replace(second, person=0), replace(first, person=1))
    images = method.generate([request, replace(request, references=swapped)])
    assert images[0].tobytes() != images[1].tobytes()
