import math

import pytest
import torch

from idbench.methods.dynamicid.layout import (
    FULL_FRAME,
    Layout,
    box_from_xyxy,
    box_mask,
    check_box,
    layout_steps,
    query_grid,
    vertical_strips,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("size", "rows", "columns"), [(8, (2, 5), (2, 5)), (64, (16, 50), (19, 47))]
)
def test_a_box_covers_the_cells_that_truncation_gives(size, rows, columns):
    mask = box_mask((0.25, 0.3, 0.8, 0.75), size, size)
    covered = mask.nonzero()
    assert tuple(covered.min(dim=0).values.tolist()) == (rows[0], columns[0])
    assert tuple(covered.max(dim=0).values.tolist()) == (rows[1], columns[1])
    assert mask.sum() == (rows[1] - rows[0] + 1) * (columns[1] - columns[0] + 1)


def test_three_strips_share_twelve_columns_equally():
    counts = [box_mask(box, 4, 12).any(dim=0).sum().item() for box in vertical_strips(3)]
    assert counts == [4, 4, 4]


@pytest.mark.parametrize("people", [1, 2, 3, 5, 7, 8])
@pytest.mark.parametrize("columns", [8, 9, 12, 24, 64, 96])
def test_strips_cover_every_column_once(people, columns):
    masks = torch.stack([box_mask(box, 2, columns) for box in vertical_strips(people)])
    assert (masks.sum(dim=0) == 1).all()


def test_a_box_can_be_empty_on_a_coarse_grid():
    assert not box_mask((0.0, 0.0, 0.1, 0.1), 8, 8).any()


@pytest.mark.parametrize(
    ("width", "height", "queries", "grid"),
    [(768, 512, 6144, (64, 96)), (768, 512, 96, (8, 12)), (512, 512, 64, (8, 8))],
)
def test_the_grid_follows_from_the_number_of_queries(width, height, queries, grid):
    assert query_grid(queries, height, width) == grid


def test_grids_of_a_size_that_does_not_halve_evenly_are_those_of_the_unet():
    # Latents of 520 x 456 pixels are 65 x 57; convolutions of stride 2 and padding 1 round up.
    assert [query_grid(n, 520, 456) for n in (65 * 57, 33 * 29, 17 * 15, 9 * 8)] == [
        (65, 57),
        (33, 29),
        (17, 15),
        (9, 8),
    ]


def test_a_number_of_queries_that_no_grid_has_is_refused():
    with pytest.raises(ValueError, match="100 queries"):
        query_grid(100, 512, 512)


@pytest.mark.parametrize(("steps", "expected"), [(50, 12), (30, 7), (4, 1)])
def test_layout_steps_of_the_paper_s_share(steps, expected):
    assert layout_steps(0.24, steps) == expected


@pytest.mark.parametrize("alpha", [-0.01, 1.01, math.nan])
def test_a_share_outside_0_to_1_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        layout_steps(alpha, 50)


@pytest.mark.parametrize(
    "box",
    [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.5), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, math.nan, 1, 1)],
)
def test_what_is_no_box_is_refused(box):
    with pytest.raises(ValueError, match="box must be"):
        check_box(box)


def test_pixels_become_fractions_in_the_official_order():
    assert box_from_xyxy((10, 20, 30, 60), width=100, height=200) == (0.1, 0.1, 0.3, 0.3)


def test_a_query_in_a_box_sees_only_its_people_and_others_see_all():
    layout = Layout([[(0, 0, 1, 0.5), (0, 0.25, 1, 0.75)]], height=8, width=8)
    bias = layout.suppression(64, 2, CPU, torch.float32)
    assert bias.shape == (1, 1, 64, 4)
    first_row = (bias[0, 0, :8] == 0).tolist()
    only_first, both, only_second, everybody = (
        [True, True, False, False],
        [True] * 4,
        [False, False, True, True],
        [True] * 4,
    )
    assert first_row == [only_first] * 2 + [both] * 2 + [only_second] * 2 + [everybody] * 2
    assert torch.isneginf(bias[bias != 0]).all()


def test_samples_keep_their_own_boxes():
    layout = Layout([[FULL_FRAME], [(0, 0, 0.5, 1)]], height=4, width=4)
    assert layout.union(16, CPU).sum(dim=1).tolist() == [16, 8]
    assert layout.repeated(2).union(16, CPU).sum(dim=1).tolist() == [16, 8, 16, 8]


def test_samples_with_different_numbers_of_boxes_are_refused():
    with pytest.raises(ValueError, match="same number of boxes"):
        Layout([[FULL_FRAME], list(vertical_strips(2))], height=8, width=8)
