import itertools

import numpy as np
import pytest

from idbench.label_layout import Box, place_labels

FRAME = Box(0, 0, 1000, 600)


def boxes(anchors, size=(110, 14)):
    corners = place_labels(anchors, [size] * len(anchors), [], FRAME, radius=9)
    return [Box(x, y, x + size[0], y + size[1]) for x, y in corners]


def test_overlap_by_hand():
    assert Box(0, 0, 4, 4).overlap(Box(2, 3, 9, 9)) == 2 * 1
    assert Box(0, 0, 4, 4).overlap(Box(4, 0, 9, 9)) == 0
    assert Box(-2, 0, 2, 4).outside(Box(0, 0, 9, 9)) == 2 * 4
    assert Box(0, 0, 2, 2).nearest(5, 1) == (2, 1)


def test_single_label_stands_beside_its_point():
    (box,) = boxes([(500, 300)])
    assert box.x0 == pytest.approx(509)
    assert box.y0 <= 300 <= box.y1


@pytest.mark.parametrize("seed", range(5))
def test_labels_of_a_cluster_cover_neither_one_another_nor_the_points(seed):
    rng = np.random.default_rng(seed)
    anchors = [tuple(point) for point in rng.normal((700, 150), (90, 60), (12, 2))]
    found = boxes(anchors)
    assert all(one.overlap(other) == 0 for one, other in itertools.combinations(found, 2))
    assert all(box.outside(FRAME) == 0 for box in found)
    for index, box in enumerate(found):
        for other, (x, y) in enumerate(anchors):
            assert other == index or box.overlap(Box(x - 6, y - 6, x + 6, y + 6)) < 12


def test_label_at_the_edge_stays_inside():
    assert all(box.outside(FRAME) == 0 for box in boxes([(995, 300), (5, 300), (500, 597)]))
