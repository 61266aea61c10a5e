import pytest
import torch
from diffusers import UNet2DConditionModel

from idbench.methods.common.tiny_sd15 import tiny_unet
from idbench.methods.dynamicid.attention import LoRASelfAttention, SemanticActivatedAttention
from idbench.methods.dynamicid.control import SAAControl
from idbench.methods.dynamicid.injection import (
    attention_layers,
    install_saa,
    merge_lora,
    project_contexts,
)

SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64}


@pytest.fixture(scope="module")
def full_unet():
    """Stable Diffusion 1.5's UNet, without memory."""
    with torch.device("meta"):
        return UNet2DConditionModel(**SD15)


def test_parameters_of_the_base_model(full_unet):
    assert sum(parameter.numel() for parameter in full_unet.parameters()) == 859_520_964


def test_order_and_widths_are_those_of_the_official_module_list(full_unet):
    layers = attention_layers(full_unet)
    names = list(layers)
    assert names[1] == "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    assert names[12] == "up_blocks.1.attentions.0.transformer_blocks.0.attn1"
    assert names[31] == "mid_block.attentions.0.transformer_blocks.0.attn2"
    assert [name.endswith("attn2") for name in names] == [False, True] * 16
    widths = [attn.to_q.weight.shape[0] for attn in layers.values()]
    expected = [320] * 4 + [640] * 4 + [1280] * 10 + [640] * 6 + [320] * 6 + [1280] * 2
    assert widths == expected


def test_published_keys_and_size(full_unet):
    with torch.device("meta"):
        modules = install_saa(full_unet)
    state = modules.state_dict()
    assert len(state) == 288
    assert sum(tensor.numel() for tensor in state.values()) == 44_679_168
    assert state["0.to_k_lora.down.weight"].shape == (128, 320)
    assert state["1.to_k_lora.down.weight"].shape == (128, 768)
    assert state["31.to_v_ip.weight"].shape == (1280, 768)
    assert "0.to_k_ip.weight" not in state
    ips = sum(tensor.numel() for key, tensor in state.items() if "_ip." in key)
    lora = [sum(p.numel() for p in module.parameters()) for module in modules]
    assert ips == 19_169_280
    assert sum(lora[::2]) == 12_779_520
    assert sum(lora[1::2]) - ips == 12_730_368


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return tiny_unet().eval().requires_grad_(False)


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 4, 8, 8), torch.randn(2, 7, 64), torch.randn(2, 4, 64)


def forward(unet, latents, text, identity, **settings):
    saa = SAAControl(num_people=1, **settings)
    context = torch.cat([text, identity], dim=1)
    return unet(latents, 500, context, cross_attention_kwargs={"saa": saa}).sample


@pytest.mark.parametrize("activate_query", [True, False])
def test_a_fresh_installation_at_scale_0_is_the_base_model(unet, inputs, activate_query):
    latents, text, identity = inputs
    expected = unet(latents, 500, text).sample
    install_saa(unet, rank=4)
    found = forward(unet, latents, text, identity, id_scale=0.0, activate_query=activate_query)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_identity_projections_start_as_those_of_the_text(unet):
    install_saa(unet, rank=4)
    for attn in attention_layers(unet).values():
        processor = attn.processor
        if isinstance(processor, SemanticActivatedAttention):
            assert torch.equal(processor.to_k_ip.weight, attn.to_k.weight)
            assert torch.equal(processor.to_v_ip.weight, attn.to_v.weight)
        assert not processor.to_q_lora.up.weight.any()


def test_lora_starts_from_the_official_distribution():
    torch.manual_seed(0)
    processor = LoRASelfAttention(320, rank=128)
    down = processor.to_q_lora.down.weight
    assert down.std().item() == pytest.approx(1 / 128, rel=0.02)
    assert down.mean().item() == pytest.approx(0, abs=1e-4)


def randomise(modules):
    torch.manual_seed(2)
    for parameter in modules.parameters():
        torch.nn.init.normal_(parameter, std=0.1)


def test_merged_lora_gives_the_same_output(unet, inputs):
    randomise(install_saa(unet, rank=4))
    before = forward(unet, *inputs)
    merge_lora(unet)
    after = forward(unet, *inputs)
    torch.testing.assert_close(after, before, atol=2e-5, rtol=1e-4)
    merge_lora(unet)  # a second time changes nothing
    assert torch.equal(forward(unet, *inputs), after)


def test_keys_and_values_made_beforehand_give_the_same_output(unet, inputs):
    randomise(install_saa(unet, rank=4))
    latents, text, identity = inputs
    context = torch.cat([text, identity], dim=1)
    projections = project_contexts(unet, context, SAAControl(num_people=1))
    assert len(projections) == len(attention_layers(unet)) // 2
    found = forward(unet, latents, text, identity, projections=projections)
    assert torch.equal(found, forward(unet, latents, text, identity))


@pytest.mark.slow
def test_the_unet_compiles_into_one_graph(unet, inputs):
    """Without graph breaks: fullgraph raises at the first."""
    randomise(install_saa(unet, rank=4))
    merge_lora(unet)
    expected = forward(unet, *inputs)
    torch._dynamo.reset()
    compiled = torch.compile(unet, fullgraph=True, backend="eager")
    found = forward(compiled, *inputs)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_unet_of_another_kind_is_refused():
    unet = tiny_unet()
    attention_layers(unet).popitem()[1].residual_connection = True
    with pytest.raises(ValueError, match=r"Stable Diffusion 1\.5"):
        install_saa(unet)
