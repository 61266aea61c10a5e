"""Where the files of a suite are: source names to folders, references to verified files."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import platformdirs

from idbench.prompts.acquisition.catalogue import SOURCES, source_info
from idbench.prompts.acquisition.locks import find_file
from idbench.prompts.acquisition.state import state_root
from idbench.prompts.cases import File, Reference
from idbench.prompts.files import sha256_of
from idbench.prompts.strict import path_problem

EMBEDDED_VERSION = SOURCES["embedded"].revision
_PACKAGE_FOLDERS = {
    "scikit-image": ("skimage", "data", "scikit-image"),
    "insightface": ("insightface", "data/images", "insightface"),
}
_FOLDER_PREFIX = "folder:"


class DriftError(ValueError):
    """A file of a source is there but its content is not what the suite was frozen with."""


def data_root(environment: Mapping[str, str] = os.environ) -> Path:
    """Where data is kept: $IDBENCH_DATA, else the user-data folder of the platform.

    For the command line only; everything else takes the folder as an argument.
    """
    chosen = environment.get("IDBENCH_DATA")
    return (
        Path(chosen).expanduser().absolute()
        if chosen
        else Path(platformdirs.user_data_dir("idbench"))
    )


def source_root(source: str, data_root: Path) -> Path:
    """The folder that paths of `source` are relative to.

    Packages are located without being imported. "folder:/absolute/path" stands for that folder;
    importers use it for images that stay where they are.

    Raises:
        LookupError: If the source is unknown.
        FileNotFoundError: If it is not here yet, with the command that gets it.
    """
    if source in _PACKAGE_FOLDERS:
        return _package_folder(*_PACKAGE_FOLDERS[source])
    if source == "embedded":
        return data_root / "sources" / "embedded" / EMBEDDED_VERSION
    if source.startswith(_FOLDER_PREFIX):
        return Path(source.removeprefix(_FOLDER_PREFIX))
    info = source_info(source)
    root = state_root(source, data_root)
    if root is None:
        how = f"idbench data fetch {source}; or {info.manual}"
        raise FileNotFoundError(
            f"source {source} is not here; {info.manual if info.method == 'import' else how}"
        )
    return root


def folder_source(folder: Path) -> str:
    """The source name that stands for a folder of the user's."""
    return _FOLDER_PREFIX + str(folder.resolve())


def _package_folder(module: str, folder: str, distribution: str) -> Path:
    spec = find_spec(module)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations:
        raise FileNotFoundError(
            f"{distribution} is not installed, and its sample photographs are needed; "
            f"install them with: pip install 'idbench[embedded]'"
        )
    return Path(locations[0]) / folder


def resolve(file: Reference | File, source: str, data_root: Path) -> Path:
    """The verified file behind a reference or a file of a case.

    A `source` that the file itself names goes before the argument.

    Raises:
        FileNotFoundError: If it is absent, with what to do.
        DriftError: If its sha256 is another one.
        ValueError: If the path leaves the folder of its source.
    """
    source = file.source or source
    problem = path_problem(file.path)
    if problem:
        raise ValueError(f"{problem}: {file.path!r} of source {source}")
    root = source_root(source, data_root)
    path = find_file(root, file.path)
    if path is None:
        raise FileNotFoundError(f"{root / file.path} is absent; {_advice(source)}")
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{path} is a link that leads out of its source {source}")
    actual = sha256_of(path)
    if actual != file.sha256:
        raise DriftError(
            f"{path} has sha256 {actual}, but the suite was frozen with {file.sha256}; "
            f"{_advice(source)}"
        )
    return path


def _advice(source: str) -> str:
    if source == "embedded":
        return "build it with: idbench data build <suite>"
    if source in _PACKAGE_FOLDERS:
        return f"reinstall or update the package: pip install -U {_PACKAGE_FOLDERS[source][2]}"
    if source.startswith(_FOLDER_PREFIX):
        return "put the file back, or import the images again"
    return f"check the source with: idbench data verify {source} --deep"
