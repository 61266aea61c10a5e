import json

import pytest
import torch
from safetensors.torch import load_file

from idbench.methods.editedid.blend import attention_mask, blend, element_mask


@pytest.mark.golden
def test_local_blend_of_prompt_to_prompt(golden_file):
    tensors = load_file(golden_file("editedid_gating.safetensors"))
    json.loads(golden_file("editedid_gating.json").read_text())
    latents = tensors["blend.x_in"]
    mask = attention_mask(tensors["blend.summed_maps"], latents.shape[-1], 0.3, base=0)
    assert torch.equal(mask, tensors["blend.mask"].to(mask))
    found = blend(latents[None], mask[None], base=0, rows=range(len(latents)))
    torch.testing.assert_close(found[0], tensors["blend.x_out"], atol=1e-6, rtol=0)


def test_element_mask_is_the_union_grown_by_one_cell():
    mask_o, mask_i = torch.zeros(2, 1, 1, 64, 64)
    mask_o[..., 16:24, 16:24] = 1  # cell (2, 2) of 8 x 8
    mask_i[..., 63, 63] = 1  # one pixel in the corner cell
    expected = torch.zeros(8, 8)
    expected[1:4, 1:4] = 1
    expected[6:, 6:] = 1
    assert torch.equal(element_mask(mask_o, mask_i, 8)[0, 0], expected)


def test_blend_takes_the_base_outside_and_leaves_other_rows():
    latents = torch.randn(2, 3, 4, 8, 8, generator=torch.manual_seed(0))
    mask = torch.zeros(2, 1, 1, 8, 8)
    mask[..., :4] = 1
    found = blend(latents, mask, base=1, rows=[2])
    assert torch.equal(found[:, :2], latents[:, :2])
    torch.testing.assert_close(found[:, 2, ..., :4], latents[:, 2, ..., :4])
    assert torch.equal(found[:, 2, ..., 4:], latents[:, 1, ..., 4:])
