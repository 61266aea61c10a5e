import pytest
import torch

from idbench.methods.dynamicid.reconfigurator import (
    IdentityMotionReconfigurator,
    ReconfiguratorConfig,
)


def config_of(meta):
    return ReconfiguratorConfig(
        embedding_dim=meta["embedding_dim"],
        text_dim=meta["txt_dim"],
        dim=meta["dim"],
        heads=meta["heads"],
        head_width=meta["dim_head"],
        num_motion_tokens=meta["num_queries"],
        feed_forward_multiplier=meta["ff_mult"],
        disentangle_depth=meta["erase_layer_num"],
        entangle_depth=meta["drive_layer_num"],
    )


@pytest.fixture(scope="module")
def golden_modules(cases):
    found = []
    for case in cases("imr"):
        if "txt_dim" in case.meta:
            module = IdentityMotionReconfigurator(config_of(case.meta)).eval()
            module.load_state_dict(case.group("state"), strict=True)
            found.append((case, module.requires_grad_(False)))
    assert found
    return found


@pytest.mark.golden
def test_predictions_agree_with_the_official_code(golden_modules):
    for case, module in golden_modules:
        found = module(**case.group("in"))
        expected = case.tensors["out/predicted_tokens"]
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0, msg=case.name)


@pytest.mark.golden
def test_motion_and_identity_tokens_agree_with_the_official_code(golden_modules):
    for case, module in golden_modules:
        given = case.group("in")
        landmark = torch.cat([given["source_landmark"], given["target_landmark"]])
        text = torch.cat([given["source_text"], given["target_text"]])
        motion = module.motion_tokens(landmark, text)
        torch.testing.assert_close(motion, case.tensors["out/motion_tokens"], atol=2e-5, rtol=0)
        identity = module.disentangle(given["source_tokens"], motion[:1])
        expected = case.tensors["out/identity_tokens"]
        torch.testing.assert_close(identity, expected, atol=2e-5, rtol=0)


@pytest.mark.golden
@torch.no_grad()
def test_full_size_agrees_with_the_official_code(full_size, fill_closed_form):
    golden = full_size("imr", "source_tokens")
    module = fill_closed_form(IdentityMotionReconfigurator())
    found = module(**golden.group("in"))
    expected = golden.tensors["out/predicted_tokens"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("depth", "parameters"), [(1, 40_926_464), (4, 141_638_912)])
def test_published_size(depth, parameters):
    with torch.device("meta"):
        module = IdentityMotionReconfigurator(
            ReconfiguratorConfig(disentangle_depth=depth, entangle_depth=depth)
        )
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    if depth == 1:
        assert len(module.state_dict()) == 48


@pytest.fixture
def small():
    torch.manual_seed(1)
    config = ReconfiguratorConfig(embedding_dim=24, text_dim=16, dim=32, heads=2, head_width=16)
    module = IdentityMotionReconfigurator(config).eval().requires_grad_(False)
    inputs = {
        "source_tokens": torch.randn(2, 4, 24),
        "source_landmark": torch.randn(2, 24),
        "target_landmark": torch.randn(6, 24),
        "source_text": torch.randn(2, 16),
        "target_text": torch.randn(6, 16),
    }
    return module, inputs


def only(inputs, source, targets):
    return {
        key: value[source : source + 1] if key.startswith("source") else value[targets]
        for key, value in inputs.items()
    }


def test_permuting_targets_permutes_predictions(small):
    module, inputs = small
    order = torch.tensor([2, 0, 1])
    found = module(**only(inputs, 0, order))
    expected = module(**only(inputs, 0, slice(0, 3)))[order]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_targets_together_equal_targets_one_by_one(small):
    module, inputs = small
    together = module(**only(inputs, 0, slice(0, 3)))
    alone = torch.cat([module(**only(inputs, 0, slice(i, i + 1))) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_several_sources_equal_each_source_alone(small):
    module, inputs = small
    together = module(**inputs)
    alone = [module(**only(inputs, i, slice(3 * i, 3 * i + 3))) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=0)


def test_targets_that_cannot_be_shared_out_are_refused(small):
    module, inputs = small
    inputs["target_text"] = inputs["target_text"][:5]
    inputs["target_landmark"] = inputs["target_landmark"][:5]
    with pytest.raises(ValueError, match="5 targets"):
        module(**inputs)
