"""Weights that lie inside installed packages: found without importing them, trusted by SHA-256."""

import hashlib
import importlib.util
import pickletools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

INSTALL = 'pip install "idbench[embedded]"'


class WeightsError(RuntimeError):
    """Weights that are absent, or that are not the ones they should be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagedFile:
    """A file of an installed package. `path` is relative to the folder of the package."""

    package: str
    path: str
    sha256: str

    def locate(self) -> Path | None:
        """Where the file lies, or None. The package is not imported: several cannot be."""
        spec = importlib.util.find_spec(self.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if (Path(folder) / self.path).is_file():
                return Path(folder) / self.path
        return None

    def require(self) -> Path:
        """Where the file lies.

        Raises:
            WeightsError: If it is not installed.
        """
        found = self.locate()
        if found is None:
            raise WeightsError(
                f"{self.package}/{self.path} is not installed; get it with: {INSTALL}"
            )
        return found

    def verified(self) -> Path:
        """Where the file lies, after its SHA-256 has been checked.

        Raises:
            WeightsError: If it is not installed or its content differs.
        """
        found = self.require()
        with found.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != self.sha256:
            raise WeightsError(
                f"{found} has sha256 {actual}, expected {self.sha256}; "
                f"reinstall it with: {INSTALL} --force-reinstall"
            )
        return found


MTCNN_PNET = PackagedFile(
    package="mtcnn",
    path="assets/weights/pnet.lz4",
    sha256="ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
)
MTCNN_RNET = PackagedFile(
    package="mtcnn",
    path="assets/weights/rnet.lz4",
    sha256="cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
)
MTCNN_ONET = PackagedFile(
    package="mtcnn",
    path="assets/weights/onet.lz4",
    sha256="94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
)
DLIB_RECOGNITION = PackagedFile(
    package="face_recognition_models",
    path="models/dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
)
DLIB_5_POINTS = PackagedFile(
    package="face_recognition_models",
    path="models/shape_predictor_5_face_landmarks.dat",
    sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
)
DLIB_68_POINTS = PackagedFile(
    package="face_recognition_models",
    path="models/shape_predictor_68_face_landmarks.dat",
    sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
)
MEAN_SHAPE_68 = PackagedFile(
    package="insightface",
    path="data/objects/meanshape_68.pkl",
    sha256="39ffecf84ba73f0d0d7e49380833ba88713c9fcdec51df4f7ac45a48b8f4cc51",
)


def mean_shape_68() -> NDArray[np.float64]:
    """The mean face of insightface's 68-point model, `68 3`, x right, y down, z into the image.

    The file is a pickle of one float32 array. It is never unpickled: the bytes of the array are
    the longest binary string in it, and are read from its opcodes.

    Raises:
        WeightsError: If the file is not installed or its content differs.
    """
    pickled = MEAN_SHAPE_68.verified().read_bytes()
    strings = [arg for _, arg, _ in pickletools.genops(pickled) if isinstance(arg, bytes)]
    values = max(strings, key=len)
    return np.frombuffer(values, "<f4").reshape(68, 3).astype(np.float64)


def missing_mtcnn() -> list[str]:
    """The weights of MTCNN that are not installed, with the command to get them."""
    return _missing((MTCNN_PNET, MTCNN_RNET, MTCNN_ONET))


def missing_dlib() -> list[str]:
    """The weights of `dlib_face` that are not installed, with the command to get them."""
    return _missing((DLIB_RECOGNITION, DLIB_5_POINTS, DLIB_68_POINTS, MEAN_SHAPE_68))


def missing_mean_face() -> list[str]:
    """The mean face of insightface if it is not installed, with the command to get it."""
    return _missing((MEAN_SHAPE_68,))


def _missing(files: tuple[PackagedFile, ...]) -> list[str]:
    return [
        f"weights {file.package}/{file.path} are not installed: {INSTALL}"
        for file in files
        if file.locate() is None
    ]
