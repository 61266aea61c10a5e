"""A small suite of procedural pictures in a folder, and methods in files."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idbench.prompts.files import sha256_of
from idbench.prompts.freezing import suite_of, write_suite
from idbench.prompts.references import identified, reference_of
from idbench.prompts.sources import folder_source
from idbench.prompts.suites import Suite, load_suite


@pytest.fixture
def pictures(tmp_path: Path) -> Suite:
    """Three identities x two prompts; the references are 24 x 16 pixels of one colour each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    cases = []
    for number in range(3):
        path = folder / f"{number}.png"
        Image.new("RGB", (24, 16), (40 * number, 80, 120)).save(path)
        reference = reference_of(
            path=path.name, sha256=sha256_of(path), source=folder_source(folder)
        )
        cases += [
            identified(
                "pictures",
                1,
                alias=f"{number}-{prompt}",
                kind="single_id",
                references=(reference,),
                prompt=prompt,
            )
            for prompt in ("a portrait", "at the sea")
        ]
    suite = suite_of(cases, name="pictures", kind="single_id")
    write_suite(suite, tmp_path / "suite")
    return load_suite(tmp_path / "suite", data_root=tmp_path / "data")


@pytest.fixture
def method_file(tmp_path: Path) -> Callable[[str], str]:
    """Writes a user's method and returns its name for `--method`."""

    def write(source: str) -> str:
        path = tmp_path / "method.py"
        path.write_text(textwrap.dedent(source))
        return f"python:{path}:Method"

    return write


@pytest.fixture
def gradient() -> Image.Image:
    """A picture in which every pixel differs from its neighbours."""
    rows, columns = np.mgrid[0:16, 0:24]
    return Image.fromarray(np.stack([rows * 15, columns * 10, rows + columns], -1).astype(np.uint8))


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a spawned process import the test module that its classes come from."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
