import numpy as np
import pytest
import torch

from idbench.methods.dynamicid.keypoints import (
    KeypointEncoder,
    draw_landmarks,
    landmark_points,
    landmark_tensor,
    perturb_landmarks,
)


@pytest.mark.golden
def test_features_agree_with_the_official_code(cases):
    checked = 0
    for case in cases("imr"):
        if "width_divisor" not in case.meta:
            continue
        module = KeypointEncoder(case.meta["embedding_dim"], case.meta["width_divisor"])
        module.load_state_dict(case.group("state"), strict=True)
        module.requires_grad_(False)
        image = case.tensors["in/landmark_image"]
        expected = case.group("out")
        found = module.eval()(image)
        torch.testing.assert_close(found, expected["feature_eval"], atol=5e-5, rtol=0)
        found = module.train()(image)
        torch.testing.assert_close(found, expected["feature_train"], atol=5e-5, rtol=0)
        after = case.group("state_after_train_forward")
        assert after
        state = module.state_dict()
        for key, running in after.items():
            torch.testing.assert_close(state[key], running, atol=5e-5, rtol=0, msg=key)
        checked += 1
    assert checked


@pytest.mark.golden
@torch.no_grad()
def test_full_size_agrees_with_the_official_code(full_size, fill_closed_form):
    golden = full_size("imr", "landmark_image")
    module = fill_closed_form(KeypointEncoder())
    found = module(golden.tensors["in/landmark_image"])
    torch.testing.assert_close(found, golden.tensors["out/feature_eval"], atol=1e-4, rtol=0)


@pytest.mark.golden
def test_landmark_maps_equal_the_official_ones(cases):
    found = [case for case in cases("imr") if "canvas" in case.meta]
    assert found
    for case in found:
        points = case.tensors["in/landmark_2d_106"].numpy()
        image = draw_landmarks(points, case.meta["source_size"])
        np.testing.assert_array_equal(image, case.tensors["out/image_u8"].numpy())


def test_published_size():
    with torch.device("meta"):
        module = KeypointEncoder()
    assert len(module.state_dict()) == 126
    assert sum(parameter.numel() for parameter in module.parameters()) == 8_298_976


def test_features_are_one_non_negative_vector_per_map():
    module = KeypointEncoder(embedding_dim=24, width_divisor=8)
    features = module(torch.randn(3, 1, 96, 96))
    assert features.shape == (3, 24, 1, 1)
    assert (features >= 0).all()


@pytest.mark.parametrize("side", [64, 95, 112, 128])
def test_maps_of_another_size_are_refused(side):
    with pytest.raises(ValueError, match="96"):
        KeypointEncoder(embedding_dim=8, width_divisor=8)(torch.zeros(1, 1, side, side))


def test_points_on_or_beyond_the_edges_are_dropped():
    side = 512 / 96
    edges = np.array([[0.0, 100.0], [100.0, 0.0], [512.0, 100.0], [100.0, 512.0], [-3.0, 9.0]])
    assert draw_landmarks(edges).sum() == 0
    inside = np.array([[1e-6, 1e-6], [95.999 * side, 0.5 * side]])
    image = draw_landmarks(inside)
    assert np.argwhere(image == 255).tolist() == [[0, 0], [0, 95]]


def test_a_map_is_minus_1_and_1():
    image = draw_landmarks(np.array([[256.0, 128.0]]))
    tensor = landmark_tensor(image)
    assert tensor.shape == (1, 96, 96)
    assert tensor[0, 24, 48] == 1.0
    assert (tensor == -1.0).sum() == 96 * 96 - 1


def test_points_read_from_a_map_draw_the_same_map():
    rng = np.random.default_rng(0)
    image = draw_landmarks(rng.uniform(1, 511, size=(106, 2)))
    np.testing.assert_array_equal(draw_landmarks(landmark_points(image)), image)


def test_no_perturbation_leaves_points_alone():
    points = np.random.default_rng(0).uniform(100, 400, size=(106, 2))
    moved = perturb_landmarks(points, np.random.default_rng(1), strength=0.0)
    np.testing.assert_allclose(moved, points, atol=1e-9)


def test_perturbation_is_a_small_similarity_with_jitter():
    points = np.random.default_rng(0).uniform(100, 400, size=(106, 2))
    shifts = []
    for seed in range(200):
        moved = perturb_landmarks(points, np.random.default_rng(seed))
        shift = moved.mean(axis=0) - points.mean(axis=0)
        shifts.append(shift)
        a = moved - moved.mean(axis=0)
        b = points - points.mean(axis=0)
        turn = (a[:, 0] + 1j * a[:, 1]) @ np.conj(b[:, 0] + 1j * b[:, 1]) / (b**2).sum()
        assert abs(abs(turn) - 1) < 0.03 + 0.01
        assert abs(np.angle(turn, deg=True)) < 3 + 0.5
        residual = (a[:, 0] + 1j * a[:, 1]) - turn * (b[:, 0] + 1j * b[:, 1])
        assert 1.0 < np.sqrt((np.abs(residual) ** 2).mean() / 2) < 2.0  # 1.5 px per coordinate
    assert np.abs(shifts).max() < 8 + 1
    assert np.abs(shifts).max() > 6


def test_perturbation_follows_its_generator():
    points = np.random.default_rng(0).uniform(100, 400, size=(106, 2))
    one, same, other = (
        perturb_landmarks(points, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
