import pytest
import torch

from idbench.methods.pulid.attention import PerceiverAttentionCA

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def reference(golden):
    return golden("pulid_perceiver_attention_ca")


def module_of(reference, constructor, prefix):
    module = PerceiverAttentionCA(**reference.meta[constructor])
    module.load_state_dict(reference.part(prefix), strict=True)
    return module.eval().requires_grad_(False)


def test_float32_matches(reference):
    module = module_of(reference, "ctor", "sd.")
    delta = module(reference["in.id"], reference["in.img"])
    torch.testing.assert_close(delta, reference["out.float32"], atol=1e-5, rtol=0)


def test_bfloat16_matches(reference):
    module = module_of(reference, "ctor", "sd.").bfloat16()
    delta = module(reference["in.id"].bfloat16(), reference["in.img"].bfloat16())
    expected = reference["out.bfloat16"].float()
    torch.testing.assert_close(delta.float(), expected, atol=3e-2, rtol=0)


def test_identity_width_defaults_to_image_width(reference):
    module = module_of(reference, "ctor_nokv", "sd_nokv.")
    delta = module(reference["in.nokv_id"], reference["in.img"][:1])
    torch.testing.assert_close(delta, reference["out.nokv"], atol=1e-5, rtol=0)


def test_one_identity_spreads_over_the_batch(reference):
    module = module_of(reference, "ctor", "sd.")
    delta = module(reference["in.id"][:1], reference["in.img"])
    # sample 0 has the identity of the golden; sample 1 equals a run of its own
    torch.testing.assert_close(delta[0], reference["out.float32"][0], atol=1e-5, rtol=0)
    alone = module(reference["in.id"][:1], reference["in.img"][1:2])
    torch.testing.assert_close(delta[1:2], alone, atol=1e-6, rtol=0)


def test_cached_keys_and_values_agree_with_recomputed(reference):
    module = module_of(reference, "ctor", "sd.")
    key, value = module.key_value(reference["in.id"])
    delta = module.attend(module.query(reference["in.img"]), key, value)
    torch.testing.assert_close(delta, reference["out.float32"], atol=1e-5, rtol=0)
