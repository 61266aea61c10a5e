import numpy as np
import pytest
import torch

from idbench.methods.editid.config import EditIDConfig
from idbench.methods.editid.integration import PooledQueries
from idbench.methods.editid.method import EditID
from idbench.methods.pulid.injection import IDInjector
from idbench.methods.pulid.pipeline import ConstantWeight, PuLIDFlux

# the libraries' own: torchvision inside facexlib, scikit-image inside insightface
pytestmark = [
    pytest.mark.filterwarnings("ignore:The parameter 'pretrained' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning"),
    pytest.mark.filterwarnings("ignore:`estimate` is deprecated:FutureWarning"),
]

SMALL = {
    "width": 64,
    "height": 48,
    "num_inference_steps": 3,
    "max_sequence_length": 16,
    "guidance_scale": 3.5,
}


@pytest.fixture(scope="module")
def pulid(tiny_flux_weights):
    return PuLIDFlux(weights=tiny_flux_weights, **SMALL).pipeline


@pytest.fixture
def latents(pulid, portrait_request):
    """Latents after the last step, with an integration and gains in place of PuLID's."""
    injector: IDInjector = pulid.injector

    def run(integration=None, scale_gains=(1.0,) * 5):
        seen = []
        pulid._encoded.clear()
        injector.integration, pulid.scale_gains = integration, scale_gains
        tokens = pulid.encode_identity(portrait_request(1).references[0]).tokens
        pulid(
            ["a portrait"],
            [3],
            tokens,
            width=64,
            height=48,
            plan=ConstantWeight(1.0),
            on_step=lambda step, latents: seen.append(latents),
        )
        injector.integration, pulid.scale_gains = None, (1.0,) * 5
        return seen[-1]

    return run


def test_without_queries_and_with_unit_gains_it_is_pulid(latents):
    torch.testing.assert_close(latents(PooledQueries(0.0)), latents(), atol=1e-6, rtol=0)


def test_pooled_queries_and_gains_each_change_the_image(latents):
    plain = latents()
    assert (latents(PooledQueries(0.3)) - plain).abs().max() > 1e-4
    assert (latents(None, (0.0, 1.0, 1.0, 1.0, 1.0)) - plain).abs().max() > 1e-4


def test_the_method_loads_its_own_integration(tiny_flux_weights, portrait_request, latents):
    method = EditID(weights=tiny_flux_weights, gamma=0.4, **SMALL)
    (image,) = method.generate([portrait_request(1, seed=3)])
    assert image.size == (64, 48)
    assert np.asarray(image).std() > 0
    assert method.pipeline.injector.integration.gamma == 0.4


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"gamma": -0.1}, "gamma must be at least 0, got -0.1"),
        ({"scale_gains": (1.0, 1.0)}, "scale_gains must be 5 numbers"),
        ({"scale_gains": (1.0, 1.0, 1.0, 1.0, -1.0)}, "scale_gains must be 5 numbers"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        EditIDConfig(**setting)
