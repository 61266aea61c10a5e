import numpy as np
import pytest

torch = pytest.importorskip("torch")

from idbench.metrics.extractors.resample import area_average, bilinear_crops  # noqa: E402


def columns_of(image):
    return torch.from_numpy(np.ascontiguousarray(image.transpose(1, 0, 2)))


def area_oracle(image, height, width):
    """Exact area means, pixel by pixel, in float64."""
    rows, columns = image.shape[0] / height, image.shape[1] / width
    result = np.zeros((height, width, image.shape[2]))
    for i in range(height):
        for j in range(width):
            for y in range(image.shape[0]):
                tall = min(y + 1, (i + 1) * rows) - max(y, i * rows)
                for x in range(image.shape[1]):
                    wide = min(x + 1, (j + 1) * columns) - max(x, j * columns)
                    if tall > 0 and wide > 0:
                        result[i, j] += tall * wide * image[y, x]
    return result / (rows * columns)


@pytest.mark.parametrize("size", [(7, 11), (3, 5), (9, 4), (1, 1), (10, 13)])
def test_area_average_equals_the_mean_of_the_covered_area(size):
    image = np.random.default_rng(3).random((10, 13, 3)).astype(np.float32)
    found = area_average(columns_of(image), *size).numpy()
    np.testing.assert_allclose(found, area_oracle(image, *size), atol=1e-6)


def test_area_average_by_hand():
    # 3 pixels onto 2: each new pixel covers one and a half.
    image = np.array([[[0.0], [6.0], [12.0]]], np.float32)
    np.testing.assert_allclose(area_average(columns_of(image), 1, 2).numpy().ravel(), [2, 10])


def test_area_average_equals_opencv():
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(5).random((64, 90, 3)).astype(np.float32)
    expected = cv2.resize(image, (37, 21), interpolation=cv2.INTER_AREA)
    found = area_average(columns_of(image), 21, 37).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


def crop_oracle(image, box, side):
    """The sampling formula of section B.7 of the metric specification, sample by sample."""
    height, width, channels = image.shape
    x1, y1, x2, y2 = box
    crop = np.zeros((side, side, channels))
    for i in range(side):
        y = (y1 + i / (side - 1) * (y2 - y1)) * (height - 1) / height
        for j in range(side):
            x = (x1 + j / (side - 1) * (x2 - x1)) * (width - 1) / width
            if 0 <= y <= height - 1 and 0 <= x <= width - 1:
                top, left = int(y), int(x)
                bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
                b, a = y - top, x - left
                crop[i, j] = (1 - b) * ((1 - a) * image[top, left] + a * image[top, right]) + b * (
                    (1 - a) * image[bottom, left] + a * image[bottom, right]
                )
    return crop


def test_crops_are_bilinear_and_zero_outside():
    image = np.random.default_rng(11).random((19, 23, 3)).astype(np.float32) + 1
    boxes = np.array([[2.3, 1.7, 9.1, 14.2], [-4.2, -3.1, 30.0, 11.0], [15.5, 9.0, 26.0, 25.0]])
    crops = bilinear_crops(torch.from_numpy(image), torch.from_numpy(boxes), 8).numpy()
    assert crops.shape == (3, 3, 8, 8)
    for crop, box in zip(crops, boxes, strict=True):
        expected = crop_oracle(image.astype(np.float64), box, 8).transpose(2, 0, 1)
        np.testing.assert_array_equal(crop == 0, expected == 0)
        np.testing.assert_allclose(crop, expected, atol=1e-5)
