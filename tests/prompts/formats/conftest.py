"""Pictures on disk, each with its own content."""

import pytest
from PIL import Image


@pytest.fixture
def picture(tmp_path):
    """Writes a small picture whose content follows from its path; returns the path."""

    def write(path, seed=None):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        number = sum((seed or path).encode())
        image = Image.new("RGB", (8 + number % 7, 9), (number % 256, number // 256 % 256, 7))
        image.putpixel((0, 0), (len(seed or path) % 256, number % 251, 3))
        image.save(target)
        return target

    return write
