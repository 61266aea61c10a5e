import pytest
import torch
from diffusers import FluxTransformer2DModel

from idbench.methods.pulid.attention import PerceiverAttentionCA
from idbench.methods.pulid.injection import Identity, IDInjector, injected_blocks

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def reference(golden):
    return golden("pulid_flux_tiny_forward")


@pytest.fixture
def model(tiny_flux):
    transformer, modules = tiny_flux("pulid_flux_tiny_forward")
    injector = IDInjector(modules)
    injector.attach(transformer)
    yield transformer, injector
    injector.remove()


def forward(transformer, reference, **changes):
    inputs = {
        "hidden_states": reference["in.img"],
        "encoder_hidden_states": reference["in.txt"],
        "pooled_projections": reference["in.y"],
        "timestep": reference["in.timesteps"],
        "guidance": reference["in.guidance"],
        # the official code carries a batch of equal position ids
        "img_ids": reference["in.img_ids"].reshape(-1, *reference["in.img_ids"].shape[-2:])[0],
        "txt_ids": reference["in.txt_ids"].reshape(-1, *reference["in.txt_ids"].shape[-2:])[0],
    }
    return transformer(**{**inputs, **changes}, return_dict=False)[0]


def test_without_identity_equals_the_official_forward(reference, model):
    transformer, _ = model
    out = forward(transformer, reference)
    torch.testing.assert_close(out, reference["out.no_id"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("weight", [1.0, 0.6])
@pytest.mark.parametrize("cached", [True, False])
def test_with_identity_equals_the_official_forward(reference, model, weight, cached):
    transformer, injector = model
    tokens = reference["in.id"]
    injector.use(injector.prepare(tokens) if cached else Identity(tokens), weight)
    out = forward(transformer, reference)
    torch.testing.assert_close(out, reference[f"out.id_w{weight}"], atol=2e-5, rtol=0)


def test_weight_per_sample(reference, model):
    transformer, injector = model
    injector.use(injector.prepare(reference["in.id"]), torch.tensor([1.0, 0.6]))
    out = forward(transformer, reference)
    torch.testing.assert_close(out[0], reference["out.id_w1.0"][0], atol=2e-5, rtol=0)
    torch.testing.assert_close(out[1], reference["out.id_w0.6"][1], atol=2e-5, rtol=0)


def test_weight_zero_equals_no_identity_exactly(reference, model):
    transformer, injector = model
    plain = forward(transformer, reference)
    injector.use(injector.prepare(reference["in.id"]), 0.0)
    assert torch.equal(forward(transformer, reference), plain)


def test_every_module_sees_and_adds_what_the_official_one_does(reference, model):
    transformer, injector = model
    seen = {}

    def record(module, index, hidden_states, tokens, key_value):
        seen[index] = (hidden_states, module(tokens, hidden_states))
        return seen[index][1]

    injector.integration = record
    injector.use(Identity(reference["in.id"]), 1.0)
    forward(transformer, reference)
    assert sorted(seen) == list(range(len(injector.pulid_ca)))
    for index, (stream, delta) in seen.items():
        expected = reference[f"out.ca{index}.img_stream_in"]
        torch.testing.assert_close(stream, expected, atol=2e-5, rtol=0)
        torch.testing.assert_close(delta, reference[f"out.ca{index}.delta"], atol=2e-5, rtol=0)


@pytest.mark.parametrize(("name", "identity"), [("no_id", False), ("id_w1.0", True)])
def test_bfloat16_stays_close(reference, model, name, identity):
    transformer, injector = model
    transformer.bfloat16()
    injector.bfloat16()
    inputs = {
        "hidden_states": reference["in.img"].bfloat16(),
        "encoder_hidden_states": reference["in.txt"].bfloat16(),
        "pooled_projections": reference["in.y"].bfloat16(),
        # the level itself is rounded, not 1000 times the level
        "timestep": reference["in.timesteps"].bfloat16(),
        "guidance": reference["in.guidance"].bfloat16(),
    }
    injector.use(injector.prepare(reference["in.id"]) if identity else None)
    out = forward(transformer, reference, **inputs).float()
    expected = reference[f"out.bf16_{name}"].float()
    assert (out - expected).norm() / expected.norm() <= 3e-2


def test_text_leaving_a_hooked_block_is_untouched(reference, model):
    transformer, injector = model
    block = injected_blocks(transformer)[0]
    text = []
    handle = block.register_forward_hook(lambda b, a, output: text.append(output[0]))
    forward(transformer, reference)
    injector.use(injector.prepare(reference["in.id"]), 1.0)
    forward(transformer, reference)
    handle.remove()
    assert torch.equal(text[0], text[1])


def test_gradient_checkpointing_runs_the_hooks(reference, model):
    transformer, injector = model
    injector.requires_grad_(True)
    injector.use(Identity(reference["in.id"]), 1.0)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            transformer.enable_gradient_checkpointing()
        transformer.train(checkpointing)
        injector.zero_grad()
        forward(transformer, reference).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in injector.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, atol=1e-7, rtol=1e-5)


def test_removal_restores_the_transformer(reference, tiny_flux):
    transformer, modules = tiny_flux("pulid_flux_tiny_forward")
    names = set(transformer.state_dict())
    before = forward(transformer, reference)
    injector = IDInjector(modules)
    injector.attach(transformer)
    injector.use(injector.prepare(reference["in.id"]), 1.0)
    assert not torch.equal(forward(transformer, reference), before)
    assert set(transformer.state_dict()) == names
    injector.remove()
    assert torch.equal(forward(transformer, reference), before)
    assert not any(block._forward_hooks for block in injected_blocks(transformer))


def test_two_injectors_on_one_transformer_are_refused(tiny_flux, model):
    transformer, injector = model
    _, modules = tiny_flux("pulid_flux_tiny_forward")
    with pytest.raises(RuntimeError, match="another IDInjector"):
        IDInjector(modules).attach(transformer)
    with pytest.raises(RuntimeError, match="attached already"):
        injector.attach(transformer)


def test_wrong_number_of_modules_is_refused(tiny_flux):
    transformer, modules = tiny_flux("pulid_flux_tiny_forward")
    with pytest.raises(ValueError, match="4 injection points, the weights have 3 modules"):
        IDInjector(modules[:3]).attach(transformer)


def narrow(reference, doubles, singles):
    """A FLUX of a given depth that takes the reference's inputs, and an injector on it."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=reference["in.img"].shape[-1],
        num_layers=doubles,
        num_single_layers=singles,
        attention_head_dim=12,
        num_attention_heads=4,
        joint_attention_dim=reference["in.txt"].shape[-1],
        pooled_projection_dim=reference["in.y"].shape[-1],
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 4),
    )
    kv_dim = reference["in.id"].shape[-1]
    modules = [
        PerceiverAttentionCA(dim=48, dim_head=8, heads=3, kv_dim=kv_dim)
        for _ in injected_blocks(transformer)
    ]
    injector = IDInjector(modules).eval().requires_grad_(False)
    injector.attach(transformer)
    return transformer.eval().requires_grad_(False), injector


@pytest.fixture
def two_blocks(reference):
    """One double and one single block: two injection points, quick to compile."""
    transformer, injector = narrow(reference, 1, 1)
    yield transformer, injector
    injector.remove()
    torch._dynamo.reset()


def test_whole_graph_compiles_without_a_break(reference, two_blocks):
    transformer, injector = two_blocks
    identity = injector.prepare(reference["in.id"])
    weights = (None, 1.0, 0.5, 0.25, None, 0.6)

    def outputs(model):
        for weight in weights:
            injector.use(None if weight is None else identity, weight or 1.0)
            yield forward(model, reference)

    eager = list(outputs(transformer))
    assert not torch.equal(eager[0], eager[1])
    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled = list(outputs(torch.compile(transformer, fullgraph=True, backend="eager")))
    for ours, expected in zip(compiled, eager, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
    assert not counters["graph_break"]
    # one graph with identity and one without; a new weight needs no new one
    assert counters["stats"]["unique_graphs"] == 2


def test_a_deep_transformer_compiles_block_by_block(reference):
    # nine points, one more than the graphs a piece of code may have; the released depth has 20
    transformer, injector = narrow(reference, 15, 1)
    assert len(injector.pulid_ca) == 9
    identity = injector.prepare(reference["in.id"])

    def outputs():
        for weight in (None, 1.0):
            injector.use(None if weight is None else identity, weight or 1.0)
            yield forward(transformer, reference)

    expected = list(outputs())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    transformer.compile_repeated_blocks(fullgraph=True, backend="eager")
    for ours, plain in zip(outputs(), expected, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-6, rtol=0)
    assert not torch._dynamo.utils.counters["graph_break"]
    torch._dynamo.reset()
