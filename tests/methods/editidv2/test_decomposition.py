import pytest
import torch

from idbench.methods.common.flux_sampling import Branch, denoise, euler_scheduler
from idbench.methods.editid.integration import PooledQueries
from idbench.methods.editidv2.decomposition import (
    Alpha,
    AttenuatedUpdates,
    DecomposedQueries,
    QueryDecomposition,
)
from idbench.methods.pulid.attention import PerceiverAttentionCA
from idbench.methods.pulid.injection import IDInjector
from idbench.methods.pulid.pipeline import ConstantWeight

STEPS = 4


@pytest.fixture(scope="module")
def reference(golden):
    return golden("pulid_flux_tiny_forward")


@pytest.fixture
def run(reference, tiny_flux):
    """Latents after every step of a plan."""
    transformer, modules = tiny_flux("pulid_flux_tiny_forward")

    def trajectory(plan, integration=None, **settings):
        injector = IDInjector(modules, integration)
        injector.attach(transformer)

        def branch(name, prefix, tokens):
            identity = injector.prepare(reference[tokens])

            def before(step):
                plan.before(injector, identity, name, step, STEPS)

            return Branch(
                prompt_embeds=reference[f"in.{prefix}txt"],
                pooled_prompt_embeds=reference[f"in.{prefix}y"],
                before=before,
            )

        seen = []
        denoise(
            transformer,
            euler_scheduler(STEPS, 1024),
            reference["in.img"],
            image_ids=reference["in.img_ids"].reshape(-1, *reference["in.img_ids"].shape[-2:])[0],
            positive=branch("positive", "", "in.id"),
            negative=branch("negative", "neg_", "in.uncond_id"),
            guidance_scale=3.5,
            on_step=lambda step, latents: seen.append(latents),
            **settings,
        )
        injector.remove()
        return seen

    return trajectory


def decomposed(alpha, **settings):
    decomposition = QueryDecomposition()
    settings = {"id_weight": 1.0, **settings}
    return DecomposedQueries(decomposition=decomposition, alpha=alpha, **settings), decomposition


def test_alpha_falls_linearly():
    alpha = Alpha(alpha0=0.8)
    assert [alpha.at(i, 20) for i in range(4)] == pytest.approx([0.80, 0.76, 0.72, 0.68])
    assert alpha.at(19, 20) == pytest.approx(0.04)


def test_alpha_reversed_floored_and_constant():
    assert Alpha(alpha0=0.8, reverse=True).at(5, 20) == pytest.approx(0.2)
    assert Alpha(alpha0=0.8, floor=0.5).at(19, 20) == 0.5
    assert Alpha(alpha0=0.8, schedule="constant").at(19, 20) == 0.8


@pytest.mark.golden
@pytest.mark.parametrize("true_cfg", [{}, {"true_cfg_scale": 2.5, "cfg_start_step": 0}])
def test_constant_alpha_one_is_the_released_mode_bit_for_bit(run, true_cfg):
    plan, integration = decomposed(Alpha(schedule="constant"))
    paper = run(plan, integration, **true_cfg)
    released = run(ConstantWeight(1.0), **true_cfg)
    assert all(torch.equal(a, b) for a, b in zip(paper, released, strict=True))


@pytest.mark.golden
def test_the_first_step_does_not_depend_on_alpha(run):
    firsts = []
    for alpha in (Alpha(alpha0=1.0), Alpha(alpha0=0.2), Alpha(alpha0=0.0)):
        plan, integration = decomposed(alpha)
        trajectory = run(plan, integration)
        firsts.append(trajectory[0])
    assert torch.equal(firsts[0], firsts[1])
    assert torch.equal(firsts[0], firsts[2])


@pytest.mark.golden
def test_later_steps_depend_on_alpha(run):
    ends = []
    for alpha in (Alpha(alpha0=1.0), Alpha(alpha0=0.2)):
        plan, integration = decomposed(alpha)
        ends.append(run(plan, integration)[-1])
    assert not torch.allclose(ends[0], ends[1])


@pytest.mark.golden
def test_queries_of_the_first_step_are_kept_although_identity_starts_later(run):
    plan, integration = decomposed(Alpha(alpha0=0.5), start_step=2)
    paper = run(plan, integration)
    released = run(ConstantWeight(1.0, start_step=2))
    # plain FLUX until the identity starts, the mixture of queries from then on
    assert torch.equal(paper[0], released[0])
    assert torch.equal(paper[1], released[1])
    assert not torch.equal(paper[2], released[2])


@pytest.mark.golden
def test_attenuation_scales_the_weight(run):
    # alpha0 = 1 over four steps: 1, 3/4, 1/2, 1/4
    attenuated = run(AttenuatedUpdates(alpha=Alpha(), id_weight=0.8))

    class Weights:
        def before(self, injector, identity, name, step, steps):
            injector.use(identity, (0.8, 0.6, 0.4, 0.2)[step])

    by_hand = run(Weights())
    for ours, expected in zip(attenuated, by_hand, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


@pytest.fixture
def module():
    torch.manual_seed(3)
    return PerceiverAttentionCA(dim=24, dim_head=8, heads=4, kv_dim=32).requires_grad_(False)


def test_mixture_by_hand(module):
    first, later, tokens = torch.randn(1, 5, 24), torch.randn(1, 5, 24), torch.randn(1, 3, 32)
    key_value = module.key_value(tokens)
    decomposition = QueryDecomposition()
    decomposition.observe("positive")
    decomposition(module, 0, first, tokens, key_value)
    decomposition.mix("positive", torch.full((1, 1, 1), 0.25))
    out = decomposition(module, 0, later, tokens, key_value)
    query = 0.25 * module.query(later) + 0.75 * module.query(first)
    torch.testing.assert_close(out, module.attend(query, *key_value))


def test_alpha_zero_uses_the_kept_queries_alone(module):
    first, tokens = torch.randn(1, 5, 24), torch.randn(1, 3, 32)
    key_value = module.key_value(tokens)
    decomposition = QueryDecomposition()
    decomposition.observe("positive")
    observed = decomposition(module, 0, first, tokens, key_value)
    decomposition.mix("positive", torch.zeros(1, 1, 1))
    for later in (torch.randn(1, 5, 24), torch.randn(1, 5, 24)):
        assert torch.equal(decomposition(module, 0, later, tokens, key_value), observed)


def test_mixing_without_an_observed_first_step_is_refused():
    with pytest.raises(RuntimeError, match="negative pass was not observed"):
        QueryDecomposition().mix("negative", torch.zeros(1, 1, 1))


def test_pooled_queries_with_gamma_zero_change_nothing(module):
    hidden, tokens = torch.randn(2, 5, 24), torch.randn(1, 3, 32)
    out = PooledQueries(0.0)(module, 0, hidden, tokens, module.key_value(tokens))
    torch.testing.assert_close(out, module(tokens, hidden), atol=1e-6, rtol=0)


def test_pooled_queries_by_hand(module):
    hidden, tokens = torch.randn(1, 5, 24), torch.randn(1, 3, 32)
    out = PooledQueries(0.3)(module, 0, hidden, tokens, module.key_value(tokens))
    query = module.query(hidden)
    weights = torch.softmax(tokens @ query.mT / 32**0.5, dim=-1)
    joined = torch.cat((tokens, tokens + 0.3 * weights @ query), dim=1)
    torch.testing.assert_close(out, module(joined, hidden), atol=1e-6, rtol=0)
    assert not torch.allclose(out, module(tokens, hidden), atol=1e-4)


def test_pooled_queries_need_tokens_as_wide_as_queries():
    module = PerceiverAttentionCA(dim=24, dim_head=8, heads=4, kv_dim=20)
    tokens = torch.randn(1, 3, 20)
    with pytest.raises(ValueError, match=r"as wide as the queries \(32\), got 20"):
        PooledQueries(0.3)(module, 0, torch.randn(1, 5, 24), tokens, module.key_value(tokens))
