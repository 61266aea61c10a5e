import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from idbench.metrics.extractors.packaged import (
    MEAN_SHAPE_68,
    PackagedFile,
    WeightsError,
    mean_shape_68,
)

# FIPS 180-2, appendix B.1
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that cannot be imported, with one file."""
    folder = tmp_path / "broken_package"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (folder / "data" / "weights.bin").write_bytes(b"abc")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_file_is_found_without_importing_its_package(package):
    file = PackagedFile(package="broken_package", path="data/weights.bin", sha256=ABC)
    assert file.verified() == package / "data" / "weights.bin"


def test_other_content_is_refused(package):
    (package / "data" / "weights.bin").write_bytes(b"abd")
    file = PackagedFile(package="broken_package", path="data/weights.bin", sha256=ABC)
    assert file.require().is_file()
    with pytest.raises(WeightsError, match=rf"weights\.bin has sha256 \w+, expected {ABC}"):
        file.verified()


@pytest.mark.parametrize("name", ["broken_package", "no_such_package"])
def test_what_is_absent_is_named_with_the_command_to_get_it(package, name):
    file = PackagedFile(package=name, path="data/other.bin", sha256=ABC)
    assert file.locate() is None
    with pytest.raises(WeightsError, match=rf'{name}/data/other\.bin .* pip install "idbench\['):
        file.require()


def test_mean_shape_equals_the_unpickled_array():
    if MEAN_SHAPE_68.locate() is None:
        pytest.skip("insightface is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the pickle names numpy.core
        expected = pickle.loads(MEAN_SHAPE_68.verified().read_bytes())
    np.testing.assert_array_equal(mean_shape_68(), np.reshape(expected, (68, 3)))


def test_reading_the_weights_imports_none_of_the_packages():
    program = """
import sys
from idbench.metrics.extractors import packaged
packaged.mean_shape_68()
for file in (packaged.MTCNN_PNET, packaged.DLIB_5_POINTS):
    file.verified()
print([name for name in ("mtcnn", "insightface", "face_recognition_models", "torch")
       if name in sys.modules])
"""
    if any(file.locate() is None for file in (MEAN_SHAPE_68,)):
        pytest.skip("insightface is not installed")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
