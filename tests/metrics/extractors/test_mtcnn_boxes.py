import numpy as np
import pytest

from idbench.metrics.extractors import mtcnn_boxes as box


def test_a_suppressed_box_still_suppresses():
    # Steps of 4 of width 10: neighbours overlap by 6/14 = 0.43, the outer two by 2/18. Greedy
    # suppression at 0.4 would keep the third; here the second, itself dropped, drops it.
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10], [40, 0, 50, 10]], float)
    kept = box.unsuppressed(boxes, 0.4, relative_to_smaller=False)
    assert kept.tolist() == [0, 3]


def test_overlap_can_be_relative_to_the_smaller_box():
    boxes = np.array([[0, 0, 10, 10], [2, 2, 6, 6]], float)  # 16/100 of the union, 16/16
    assert box.unsuppressed(boxes, 0.7, relative_to_smaller=False).tolist() == [0, 1]
    assert box.unsuppressed(boxes, 0.7, relative_to_smaller=True).tolist() == [0]


def test_suppression_in_blocks_equals_suppression_at_once(monkeypatch):
    corners = np.random.default_rng(2).random((300, 2)) * 100
    boxes = np.concatenate([corners, corners + 15], axis=1)
    whole = box.unsuppressed(boxes, 0.5, relative_to_smaller=False)
    monkeypatch.setattr(box, "_BLOCK", 7)
    np.testing.assert_array_equal(box.unsuppressed(boxes, 0.5, relative_to_smaller=False), whole)
    assert 0 < len(whole) < 300


def test_empty_boxes_overlap_nothing():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], float)
    assert box.unsuppressed(boxes, 0.5, relative_to_smaller=False).tolist() == [0, 1]
    none = box.unsuppressed(np.empty((0, 4)), 0.5, relative_to_smaller=True)
    assert none.tolist() == []


@pytest.mark.parametrize(
    ("height", "width", "levels"),
    # n = round(ln(min/12)/-ln 0.709 - 1), by hand: 512 gives 9.91 - ... = 9.91, 20 gives 0.485.
    [(512, 512, 10), (20, 400, 0), (24, 30, 1), (12, 12, 0), (1, 1, 0)],
)
def test_pyramid_has_as_many_levels_as_the_smaller_side_allows(height, width, levels):
    scales = box.pyramid_scales(height, width)
    assert len(scales) == levels
    assert scales == pytest.approx([0.6 * 0.709**k for k in range(levels)])
    if scales:
        assert int(min(height, width) * scales[-1]) >= 12


def test_cells_become_boxes():
    # Column 3, row 5 sees x 7..18, y 11..22 (2 c + 1, 2 c + 12); offsets count in 11 pixels.
    offsets = np.array([[0.1, 0.0, -0.1, 1.0]])
    found = box.cell_boxes(np.array([5]), np.array([3]), offsets, np.array([0.5]))
    np.testing.assert_allclose(found, [[2 * 8.1, 2 * 11, 2 * 16.9, 2 * 33]])


def test_boxes_are_squared_about_their_centre():
    np.testing.assert_allclose(box.squared(np.array([[10.0, 20, 20, 50]])), [[0.0, 20, 30, 50]])


def test_refinement_counts_width_and_height_plus_one():
    found = box.refined(np.array([[0.0, 0, 9, 19]]), np.array([[0.1, 0.1, -0.1, -0.1]]))
    np.testing.assert_allclose(found, [[1.0, 2.0, 8.0, 17.0]])


def test_points_are_relative_to_width_and_height_plus_one_less_one():
    landmarks = np.array([[0, 1, 0.5, 0, 1, 0, 0, 0.5, 1, 1.0]])
    found = box.face_points(np.array([[10.0, 20, 19, 39]]), landmarks)
    np.testing.assert_allclose(found, [[[9, 19], [19, 19], [14, 29], [9, 39], [19, 39]]])


def test_rounding_of_width_is_that_of_the_difference():
    # x from 10.4 to 20.6: rounding the ends would give a width of 11.
    assert box.rounded_xywh(np.array([[10.4, 1.0, 20.6, 3.0]])).tolist() == [[10, 1, 10, 2]]


def test_of_equal_scores_the_later_comes_first():
    assert box.descending(np.array([0.7, 0.9, 0.7])).tolist() == [1, 2, 0]
