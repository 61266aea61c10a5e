import numpy as np

from idbench.metrics.protocol import Observation
from idbench.metrics.registry import resolve


def count(boxes, scores):
    detected = {"boxes": np.reshape(np.array(boxes, float), (-1, 4)), "scores": np.array(scores)}
    observation = Observation(prompt="", features={"generated": [{"mtcnn": detected}]})
    return resolve(["n_faces"])[0](observation)


def test_faces_large_and_certain_enough_are_counted():
    boxes = [[0, 0, 24, 24], [5, 5, 90, 90], [0, 0, 23, 60], [0, 0, 80, 80]]
    assert count(boxes, [0.9, 0.5, 0.9, 0.4]) == {"": 2.0}


def test_no_face_is_a_count_of_zero():
    assert count([], []) == {"": 0.0}
