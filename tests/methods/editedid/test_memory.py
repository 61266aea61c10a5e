"""No attention matrix is built, memory does not grow with the steps, one graph per shape."""

import weakref
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from idbench.methods.editedid.attention import gated
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.gate import AttentionalGate
from idbench.methods.editedid.null_text import NullText
from idbench.methods.editedid.performance import random_batch, random_pipeline

FAST = EditedIDConfig(num_inference_steps=2, null_mode="prompt", blend="none")


class Allocations(TorchDispatchMode):
    """Notes the shape of every tensor that is made, and the most bytes alive at once."""

    def __init__(self):
        super().__init__()
        self.shapes, self.alive, self.peak, self._seen = set(), 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor)
        return result

    def _note(self, tensor):
        self.shapes.add(tuple(tensor.shape))
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)

        def freed():
            self._seen.discard(key)
            self.alive -= size

        weakref.finalize(storage, freed)


def shallow_pipeline(latent_size):
    """A model with one halving, to compile and watch quickly."""
    from diffusers import UNet2DConditionModel

    pipeline = random_pipeline("tiny", dtype=torch.float32)
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=latent_size,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 8),
        layers_per_block=1,
        attention_head_dim=1,
        cross_attention_dim=32,
        norm_num_groups=4,
    )
    pipeline.register_modules(unet=unet.requires_grad_(False).eval())
    return pipeline


@pytest.fixture(scope="module")
def wide():
    """Latents of 32 x 32: 1024 positions in the first layers."""
    return shallow_pipeline(32)


def entangle(pipeline, config, *, guided=False):
    encoded = random_batch(pipeline, 1)
    scheduler = pipeline.scheduler.configured(config)
    inversion = pipeline.align(encoded, scheduler, config)
    null = None
    if guided:
        embeds = encoded.prompt_embeds[:, :2] * 0.5
        null = NullText([embeds] * config.num_inference_steps, [], [], [])
    with Allocations() as allocations:
        pipeline.entangle(encoded, inversion, null, scheduler, config)
    return allocations


@pytest.mark.parametrize("gate", ["feature", "map_query", "map_key"])
@pytest.mark.parametrize("guided", [False, True])
def test_no_attention_matrix_is_built(wide, gate, guided):
    """Nothing of positions x positions where there are 1024 and more."""
    allocations = entangle(wide, replace(FAST, self_gate=gate), guided=guided)
    assert any(1024 in shape for shape in allocations.shapes)
    matrices = [s for s in allocations.shapes if len(s) >= 2 and s[-1] >= 1024 and s[-2] >= 1024]
    assert matrices == []


def test_the_probe_sees_attention_matrices(wide):
    from diffusers.models.attention_processor import AttnProcessor

    before = wide.unet.attn_processors
    wide.unet.set_attn_processor(AttnProcessor())
    with torch.no_grad(), Allocations() as allocations:
        wide.unet(torch.zeros(1, 4, 32, 32), 1, encoder_hidden_states=torch.zeros(1, 77, 32))
    wide.unet.set_attn_processor(before)
    assert any(s[-2:] == (1024, 1024) for s in allocations.shapes if len(s) >= 2)


def test_memory_is_flat_in_the_number_of_steps(wide):
    short, long = (
        entangle(wide, replace(FAST, num_inference_steps=steps)).peak for steps in (2, 5)
    )
    # Three more states of three rows of latents, and the swap matrices of three more steps.
    states = 3 * 3 * 4 * 32 * 32 * 4
    swaps = 3 * 3 * 77 * 77 * 4
    assert long <= short + states + swaps + 4096


# torch.compile imports modules that use deprecated names of their own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("branches", [1, 2])
def test_one_graph_for_all_steps(branches):
    """The compiled UNet call has one graph and no break, whatever the step."""
    from torch._dynamo.testing import CompileCounter

    config = replace(FAST, num_inference_steps=3, self_window=(0.0, 0.5))
    pipeline = shallow_pipeline(8)
    encoded = random_batch(pipeline, 1)
    torch._dynamo.reset()
    counter = CompileCounter()
    gate = AttentionalGate(
        config, encoded.mask_o, encoded.mask_i, encoded.swaps, latent_size=8, branches=branches
    )
    latents = torch.randn(branches, 3, 4, 8, 8, generator=torch.manual_seed(0))
    embeds = encoded.prompt_embeds.repeat(branches, 1, 1, 1)
    with torch.no_grad(), gated(pipeline.unet, gate):
        expected = []
        for step in range(3):
            gate.set_step(step)
            expected.append(pipeline.predict_noise(latents, 100 * step + 1, embeds))
        pipeline.unet.compile(backend=counter, fullgraph=True)
        for step in range(3):
            gate.set_step(step)
            found = pipeline.predict_noise(latents, 100 * step + 1, embeds)
            torch.testing.assert_close(found, expected[step], atol=1e-5, rtol=1e-5)
    assert counter.frame_count == 1
