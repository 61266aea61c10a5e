import csv

import numpy as np
import pytest
import torch
from PIL import Image

from idbench.methods.dynamicid.explain import activations_of, draw, explain, save
from idbench.methods.dynamicid.method import DynamicID
from idbench.methods.dynamicid.recorder import ActivationRecorder
from idbench.methods.protocol import Person, Reference, Request


def request_of(*pictures, boxes=None):
    return Request(
        case_id="c0",
        sample=0,
        seed=3,
        prompt="two people",
        kind="multi_id" if len(pictures) > 1 else "single_id",
        references=tuple(
            Reference(image=image, sha256=str(slot), person=slot)
            for slot, image in enumerate(pictures)
        ),
        people=tuple(
            Person(person=slot, box=None if boxes is None else boxes[slot])
            for slot in range(len(pictures))
        ),
    )


@pytest.fixture(scope="module")
def method(tiny_files):
    weights = tiny_files.base.parent
    return DynamicID(weights=weights, num_inference_steps=4, height=64, width=96)


def test_maps_are_means_over_layers_of_the_conditional_half():
    recorder = ActivationRecorder()
    fine = torch.zeros(2, 4 * 4)
    fine[1, 5] = 1.0  # row 1, column 1 of the conditional half
    fine[0] = 0.7
    coarse = torch.tensor([[0.0] * 4, [0.0, 0.0, 0.0, 0.5]])  # lower right quarter
    for step in range(2):
        recorder.activations["down.attn2", step] = fine * (step + 1) / 2
        recorder.activations["up.attn2", step] = coarse
    maps, layers, means = activations_of(recorder, height=32, width=32)
    assert layers == ("down.attn2", "up.attn2")
    expected = np.zeros((2, 4, 4), np.float32)
    expected[:, 1, 1] = [0.25, 0.5]
    expected[:, 2:, 2:] = 0.25
    np.testing.assert_allclose(maps, expected)
    np.testing.assert_allclose(means, [[0.5 / 16, 1 / 16], [0.125, 0.125]])


def test_a_recording_without_gates_is_refused():
    with pytest.raises(ValueError, match="gate must be on"):
        activations_of(ActivationRecorder(), height=8, width=8)


def test_the_image_is_that_of_the_method(method, astronaut):
    request = request_of(astronaut)
    explained = explain(method, request)
    (answer,) = method.generate([request])
    np.testing.assert_array_equal(np.asarray(explained.image), np.asarray(answer))
    assert explained.maps.shape == (4, 8, 12)
    assert explained.maps.min() >= 0
    assert explained.maps.max() <= 1
    assert explained.boxes == ()


def test_the_figure_shows_steps_and_boxes_and_the_table_all_numbers(method, astronaut, tmp_path):
    boxes = ((0.1, 0.1, 0.45, 0.9), (0.55, 0.1, 0.9, 0.9))
    explained = explain(method, request_of(astronaut, astronaut.transpose(0), boxes=boxes))
    figure = draw(explained, num_steps=3)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["image", "step 1 of 4", "step 3 of 4", "step 4 of 4"]
    assert [len(axes.patches) for axes in figure.axes[:4]] == [2, 2, 2, 2]
    picture, table = save(explained, tmp_path / "new")
    with Image.open(picture) as opened:
        assert opened.width > 400
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(explained.layers) * 4
    assert float(rows[1]["mean_activation"]) == pytest.approx(explained.by_layer[0, 1], abs=1e-6)
