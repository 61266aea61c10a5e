import numpy as np
import pytest

from idbench.metrics.protocol import Observation
from idbench.metrics.registry import resolve


@pytest.fixture
def facesim():
    return resolve(["facesim@strict[dlib]"])[0]


def features(*faces):
    """Each face is a side in pixels and the first number of its descriptor."""
    boxes = np.array([[0.0, 0.0, side, side] for side, _ in faces]).reshape(-1, 4)
    descriptors = np.zeros((len(faces), 128))
    descriptors[:, 0] = [number for _, number in faces]
    return {
        "mtcnn": {"boxes": boxes, "scores": np.full(len(faces), 0.9)},
        "dlib_face": {"descriptors": descriptors},
    }


def test_best_and_largest_face_are_reported(facesim):
    observation = Observation(
        prompt="",
        features={
            "reference": [features((100, 0.0))],
            "generated": [features((200, 0.84), (50, 0.12))],
        },
    )
    assert facesim(observation) == pytest.approx({"": 0.9, "largest": 0.3})


def test_it_is_not_comparable_with_published_columns(facesim):
    assert facesim.info.comparable_to_published is False
    assert facesim.info.columns() == ("facesim@strict[dlib]", "facesim.largest@strict[dlib]")


def test_values_have_no_lower_bound_but_one_above(facesim):
    observation = Observation(
        prompt="",
        features={"reference": [features((50, 0.0))], "generated": [features((50, 3.0))]},
    )
    assert facesim(observation)[""] == pytest.approx(-1.5)
    assert facesim.info.bounds == (-np.inf, 1.0)
