"""Alignment to the ArcFace template."""

import numpy as np
import pytest

from idbench.metrics.alignment import (
    ARCFACE_TEMPLATE,
    face_transform,
    similarity_transform,
    template,
)


@pytest.mark.golden
def test_matrices_of_insightface(core):
    for record in core["arcface_align"]:
        points = np.array(record["landmarks"])
        for size, name in ((112, "M"), (224, "M224"), (128, "M128")):
            np.testing.assert_allclose(face_transform(points, size), record[name], atol=1e-4)


def test_a_known_similarity_is_recovered():
    angle, scale, shift = 0.4, 2.5, np.array([7.0, -3.0])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    source = np.random.default_rng(0).normal(size=(6, 2))
    target = scale * source @ rotation.T + shift
    expected = np.hstack([scale * rotation, shift[:, None]])
    np.testing.assert_allclose(similarity_transform(source, target), expected, atol=1e-12)


def test_a_mirrored_face_is_not_mirrored_back():
    mirrored = ARCFACE_TEMPLATE * [-1, 1]
    matrix = similarity_transform(mirrored, ARCFACE_TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_one_point_five_times_has_no_transform():
    assert np.isnan(similarity_transform(np.ones((5, 2)), ARCFACE_TEMPLATE)).all()


def test_only_multiples_of_112_and_128_have_a_template():
    np.testing.assert_allclose(template(112), ARCFACE_TEMPLATE)
    np.testing.assert_allclose(template(256), (ARCFACE_TEMPLATE + np.array([8, 0])) * 2)
    with pytest.raises(ValueError, match="112"):
        template(100)
