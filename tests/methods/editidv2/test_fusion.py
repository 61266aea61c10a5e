import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from idbench.methods.editidv2.fusion import (
    RECIPE_KEY,
    fuse,
    fuse_files,
    fuse_files_officially,
    fuse_officially,
)


@pytest.fixture(scope="module")
def reference(golden):
    return golden("editid_fusion")


@pytest.mark.golden
@pytest.mark.parametrize("strategy", ["weighted_average", "add", "multiply"])
def test_official_strategies_bit_for_bit(reference, strategy):
    alpha = reference.meta["alpha"][strategy]
    merged = fuse_officially(reference.part("a."), reference.part("b."), strategy, alpha)
    expected = reference.part(f"out.{strategy}.")
    assert merged.keys() == expected.keys()
    for key, tensor in expected.items():
        assert merged[key].dtype == tensor.dtype
        assert torch.equal(merged[key], tensor), key


def variant(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {
        "pulid_ca.0.to_q.weight": torch.randn(4, 3, generator=generator).to(dtype),
        "pulid_ca.1.norm2.weight": torch.randn(3, generator=generator).to(dtype),
        "pulid_encoder.proj_out": torch.full((2, 2), 7.0, dtype=dtype),
    }


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_official_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\]"):
        fuse_officially(variant(0), variant(1), "add", alpha)


def test_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="known: weighted_average, add, multiply"):
        fuse_officially(variant(0), variant(1), "mean", 0.5)


def test_official_add_scales_equal_encoders_which_linear_fusion_leaves_alone():
    a, b = variant(0), variant(1)
    merged = fuse_officially(a, b, "add", 0.2)
    torch.testing.assert_close(merged["pulid_encoder.proj_out"], torch.full((2, 2), 7.0 * 1.2))
    assert torch.equal(fuse([a, b], [0.8, 0.2])["pulid_encoder.proj_out"], torch.full((2, 2), 7.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_one_and_zero_return_the_first_file_unchanged(dtype):
    a = variant(0, dtype)
    a["pulid_ca.1.norm2.weight"][0] = -0.0
    fused = fuse([a, variant(1, dtype)], [1.0, 0.0])
    for key, tensor in a.items():
        assert fused[key].dtype == dtype
        # as bits, so that -0.0 is not taken for 0.0
        bits = torch.int32 if dtype == torch.float32 else torch.int16
        assert torch.equal(fused[key].view(bits), tensor.view(bits))


def test_three_variants_by_hand():
    key = "pulid_ca.0.w"
    variants = [{key: torch.tensor([value])} for value in (1.0, 10.0, 100.0)]
    assert fuse(variants, [0.5, 0.25, 0.25])[key].item() == 0.5 + 2.5 + 25


def test_base_turns_coefficients_into_task_vectors():
    key = "pulid_ca.0.w"
    variants = [{key: torch.tensor([value])} for value in (3.0, 5.0)]
    # 1 + 0.5 * (3 - 1) + 1 * (5 - 1)
    assert fuse(variants, [0.5, 1.0], base={key: torch.tensor([1.0])})[key].item() == 6.0
    # with coefficients that sum to 1 the base cancels
    summed = fuse(variants, [0.25, 0.75])[key]
    torch.testing.assert_close(fuse(variants, [0.25, 0.75], base={key: torch.ones(1)})[key], summed)


def test_bfloat16_is_summed_in_float32_and_rounded_once():
    # 1 + 2^-8 is no bfloat16; in bfloat16 the sum below would lose both small terms
    key = "pulid_ca.0.w"
    variants = [{key: torch.tensor([value], dtype=torch.bfloat16)} for value in (2.0, 2**-7, 2**-7)]
    fused = fuse(variants, [0.5, 0.5, 0.5], base={key: torch.zeros(1, dtype=torch.bfloat16)})
    assert fused[key].item() == 1 + 2**-7


def test_weights_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match=r"must sum to 1 without a base, got 1\.5"):
        fuse([variant(0), variant(1)], [1.0, 0.5])


def test_different_keys_are_named():
    other = variant(1)
    other["pulid_ca.2.extra"] = other.pop("pulid_ca.1.norm2.weight")
    with pytest.raises(ValueError, match=r"file 1 differs in keys: .*pulid_ca\.2\.extra"):
        fuse([variant(0), other], [0.5, 0.5])


def test_different_encoders_are_refused():
    other = variant(1)
    other["pulid_encoder.proj_out"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"pulid_encoder\.proj_out differs"):
        fuse([variant(0), other], [0.5, 0.5])


def test_recipe_is_written_with_the_result(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        save_file(variant(seed), tmp_path / name, {"steps": str(seed)})
    fuse_files([tmp_path / "a", tmp_path / "b"], [0.3, 0.7], tmp_path / "out")
    with safe_open(tmp_path / "out", "pt") as file:
        metadata = file.metadata()
    recipe = json.loads(metadata[RECIPE_KEY])
    assert [entry["weight"] for entry in recipe["files"]] == [0.3, 0.7]
    assert len(recipe["files"][0]["sha256"]) == 64
    assert metadata["steps"] == "0"
    expected = fuse([variant(0), variant(1)], [0.3, 0.7])
    written = load_file(tmp_path / "out")
    assert all(torch.equal(written[key], tensor) for key, tensor in expected.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out"]


def test_official_metadata(tmp_path):
    save_file(variant(0), tmp_path / "a", {"both": "a", "one": "a"})
    save_file(variant(1), tmp_path / "b", {"both": "b", "two": "b"})
    fuse_files_officially(
        tmp_path / "a", tmp_path / "b", "add", 0.1, tmp_path / "out", timestamp="2025-01-01"
    )
    with safe_open(tmp_path / "out", "pt") as file:
        metadata = file.metadata()
    assert (metadata["both"], metadata["one"], metadata["two"]) == ("a", "a", "b")
    assert metadata["merge_timestamp"] == "2025-01-01"
    assert (metadata["source_file1"], metadata["source_file2"]) == ("a", "b")
