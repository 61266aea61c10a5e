import pytest
import torch
from safetensors.torch import load_file, save_file

from idbench.methods.pulid.attention import PerceiverAttentionCA
from idbench.methods.pulid.encoder import IDFormer
from idbench.methods.pulid.eva import EVATower
from idbench.methods.pulid.weights import load_pulid, load_tower


@pytest.fixture(scope="module")
def full_size():
    """Names and shapes of a released file, from modules without memory."""
    with torch.device("meta"):
        parts = {"pulid_encoder": IDFormer()}
        parts |= {f"pulid_ca.{i}": PerceiverAttentionCA() for i in range(20)}
    return {
        f"{part}.{key}": tuple(tensor.shape)
        for part, module in parts.items()
        for key, tensor in module.state_dict().items()
    }


def test_a_released_file_has_312_tensors_and_571_million_parameters(full_size):
    counts = [torch.Size(shape).numel() for shape in full_size.values()]
    assert len(full_size) == 172 + 140 == 312
    assert sum(counts) == 571_033_600
    encoder = [c for key, c in zip(full_size, counts, strict=True) if "encoder" in key]
    assert len(encoder) == 172
    assert sum(encoder) == 151_398_400


# tables of the official layout, sections 2 and 3 of the method's specification
EXPECTED = {
    "pulid_encoder.latents": (1, 32, 1024),
    "pulid_encoder.proj_out": (1024, 2048),
    "pulid_encoder.layers.9.0.norm1.weight": (1024,),
    "pulid_encoder.layers.9.0.norm2.bias": (1024,),
    "pulid_encoder.layers.0.0.to_q.weight": (1024, 1024),
    "pulid_encoder.layers.0.0.to_kv.weight": (2048, 1024),
    "pulid_encoder.layers.0.0.to_out.weight": (1024, 1024),
    "pulid_encoder.layers.0.1.0.weight": (1024,),
    "pulid_encoder.layers.0.1.1.weight": (4096, 1024),
    "pulid_encoder.layers.0.1.3.weight": (1024, 4096),
    "pulid_encoder.mapping_4.0.weight": (1024, 1024),
    "pulid_encoder.mapping_4.1.bias": (1024,),
    "pulid_encoder.mapping_4.6.bias": (1024,),
    "pulid_encoder.id_embedding_mapping.0.weight": (1024, 1280),
    "pulid_encoder.id_embedding_mapping.3.weight": (1024, 1024),
    "pulid_encoder.id_embedding_mapping.6.weight": (5120, 1024),
    "pulid_encoder.id_embedding_mapping.6.bias": (5120,),
    "pulid_ca.0.norm1.weight": (2048,),
    "pulid_ca.19.norm2.bias": (3072,),
    "pulid_ca.19.to_q.weight": (2048, 3072),
    "pulid_ca.0.to_kv.weight": (4096, 2048),
    "pulid_ca.0.to_out.weight": (3072, 2048),
}


def test_names_and_shapes_are_those_of_the_official_layout(full_size):
    assert {key: full_size.get(key) for key in EXPECTED} == EXPECTED


def test_the_tower_has_304_million_parameters():
    with torch.device("meta"):
        tower = EVATower()
    assert sum(parameter.numel() for parameter in tower.parameters()) == 304_432_832
    assert tower.blocks[0].mlp.w1.weight.shape == (2730, 1024)
    assert tower.pos_embed.shape == (1, 577, 1024)


@pytest.fixture
def file(tiny_flux_files, tmp_path):
    return tiny_flux_files.write_pulid(tmp_path / "pulid.safetensors")


def test_a_file_is_read_back(file):
    weights = load_pulid(file)
    tensors = load_file(file)
    for key, tensor in weights.encoder.state_dict().items():
        assert torch.equal(tensor, tensors[f"pulid_encoder.{key}"])
    for index, module in enumerate(weights.ca):
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, tensors[f"pulid_ca.{index}.{key}"])


def test_modules_alone_are_accepted_without_encoder(tiny_flux_files, tmp_path):
    path = tiny_flux_files.write_pulid(tmp_path / "ca.safetensors", encoder=False)
    weights = load_pulid(path)
    assert weights.encoder is None
    assert len(weights.ca) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"id_adapter.w": torch.zeros(1)}, r"got id_adapter\.w"),
        (lambda t: t | {"pulid_encoder": torch.zeros(1)}, "got pulid_encoder"),
        (lambda t: t | {"pulid_ca.0.extra": torch.zeros(1)}, r"pulid_ca\.0: unknown extra"),
        (lambda t: {k: v for k, v in t.items() if "latents" not in k}, "missing.*latents"),
        (
            lambda t: {k: v for k, v in t.items() if k != "pulid_ca.1.norm2.bias"},
            r"pulid_ca\.1: missing norm2\.bias",
        ),
        (
            lambda t: {k: v for k, v in t.items() if k != "pulid_encoder.layers.0.1.3.weight"},
            r"missing layers\.0\.1\.3\.weight",
        ),
        (lambda t: {k: v for k, v in t.items() if "encoder" in k}, r"no 'pulid_ca\.\*' keys"),
        (
            lambda t: {k.replace("pulid_ca.1.", "pulid_ca.2."): v for k, v in t.items()},
            r"numbered 0\.\.1, got 0, 2",
        ),
        (
            lambda t: t | {"pulid_ca.0.to_out.weight": torch.zeros(3, 3)},
            "wrong shape: to_out.weight",
        ),
    ],
    ids=["segment", "part", "extra", "latents", "ca", "layer", "no_ca", "numbers", "shape"],
)
def test_anything_else_is_refused_with_the_keys(file, change, message):
    tensors = change(load_file(file))
    save_file(tensors, file)
    with pytest.raises(ValueError, match=message):
        load_pulid(file)


def test_a_checkpoint_without_image_tower_is_refused(tmp_path):
    torch.save({"text.weight": torch.zeros(1)}, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"no key visual\.patch_embed\.proj\.weight"):
        load_tower(tmp_path / "clip.pt")


def test_a_pickle_with_code_is_refused(tmp_path):
    import pickle

    class Code:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"visual.head.weight": Code()}, tmp_path / "evil.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_tower(tmp_path / "evil.pt")


def test_the_tower_file_is_read_back(tiny_flux_files, tmp_path):
    tower = load_tower(tiny_flux_files.write_eva(tmp_path / "eva.pt"))
    state = torch.load(tmp_path / "eva.pt", weights_only=True)
    assert torch.equal(tower.head.weight, state["visual.head.weight"])
    torch.testing.assert_close(tower.cos, state["visual.rope.freqs_cos"])
