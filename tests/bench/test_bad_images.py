"""Pictures as they come: each is scored or recorded as a miss, and none stops the run."""

import struct
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from idbench.cli import main
from idbench.metrics.registry import missing_requirements
from idbench.prompts.materialise import materialise
from idbench.prompts.sources import resolve
from idbench.prompts.suites import Suite, load_suite
from idbench.store import RunStore, load_frame

MISSING = missing_requirements("dlib_face")
pytestmark = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))


def _huge(path: Path) -> None:
    """A PNG whose header promises 50,000 x 50,000 pixels and which holds none."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + kind + data
        chunks += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def _truncated(path: Path, face: Image.Image) -> None:
    face.save(path)
    path.write_bytes(path.read_bytes()[:-2000])


def _turned(path: Path, face: Image.Image) -> None:
    """Stored upside down, with the EXIF orientation that says so."""
    exif = Image.Exif()
    exif[0x0112] = 3
    face.rotate(180).save(path, quality=95, exif=exif)


def _sixteen_bit(path: Path, face: Image.Image) -> None:
    grey = np.asarray(face.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(path)


def _two_faces(path: Path, face: Image.Image, stranger: Image.Image) -> None:
    pair = Image.new("RGB", (2 * face.width, face.height))
    pair.paste(stranger, (0, 0))
    pair.paste(face, (face.width, 0))
    pair.save(path)


# name -> (file ending, writer, expected: the reason of a miss, or the lowest similarity)
PICTURES: dict[str, tuple[str, Callable[[Path, Image.Image, Image.Image], object], str | float]] = {
    "plain": ("png", lambda path, face, _: face.save(path), 0.999),
    "cmyk": ("jpg", lambda path, face, _: face.convert("CMYK").save(path, quality=95), 0.85),
    "sixteen_bit": ("png", lambda path, face, _: _sixteen_bit(path, face), 0.7),
    "turned": ("jpg", lambda path, face, _: _turned(path, face), 0.85),
    "two_faces": ("png", _two_faces, 0.85),
    "truncated": ("png", lambda path, face, _: _truncated(path, face), "no_image"),
    "animated": (
        "png",
        lambda path, face, other: face.save(path, save_all=True, append_images=[other]),
        "no_image",
    ),
    "huge": ("png", lambda path, *_: _huge(path), "no_image"),
    "text": ("png", lambda path, *_: path.write_text("not a picture"), "no_image"),
    "empty": ("png", lambda path, *_: path.write_bytes(b""), "no_image"),
    "faceless": (
        "png",
        lambda path, *_: Image.new("RGB", (256, 256), "grey").save(path),
        "no_face",
    ),
    "absent": ("png", lambda *_: None, "no_image"),
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Path]:
    root = tmp_path_factory.mktemp("data")
    found = load_suite("demo", data_root=root)
    materialise(found, root)
    return found, root


@pytest.fixture(scope="module")
def scores(
    suite: tuple[Suite, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, dict[str, str], Path]:
    """The scores of a folder that holds one picture of each kind, and kind to case id."""
    demo, root = suite
    folder = tmp_path_factory.mktemp("bad")
    (folder / "images").mkdir()
    chosen = {}
    for (name, (ending, write, _)), case in zip(PICTURES.items(), demo.cases, strict=False):
        own = case.references[0]
        other = next(
            entry.references[0] for entry in demo.cases if entry.references[0].sha256 != own.sha256
        )
        face, stranger = (
            Image.open(resolve(entry, entry.source, root)).convert("RGB") for entry in (own, other)
        )
        write(folder / "images" / f"{case.case_id}.{ending}", face, stranger)
        chosen[name] = case.case_id
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDBENCH_DATA", str(root))
        code = main(
            [
                "run", "--suite", "demo", "--limit", str(len(PICTURES)), "--workers", "1",
                "--method", f"images:{folder / 'images'}", "--output", str(folder / "runs"),
                "--metrics", "facesim[dlib],n_faces,landmarkdiff@ibench",
            ]
        )  # fmt: skip
    assert code == 1  # failures above the allowed share, which is none
    return load_frame([folder / "runs"])[0], chosen, folder / "runs"


@pytest.mark.parametrize("name", PICTURES)
def test_each_picture_is_scored_or_a_miss(
    name: str, scores: tuple[pd.DataFrame, dict[str, str], Path]
) -> None:
    frame, chosen, _ = scores
    mine = frame[frame["case_id"] == chosen[name]]
    (row,) = mine[mine["column"] == "facesim@strict[dlib]"].to_dict("records")
    expected = PICTURES[name][2]
    if isinstance(expected, str):
        assert row["reason"] == expected
    else:
        assert row["reason"] == ""
        assert row["value"] >= expected


def test_two_faces_are_counted_and_the_right_one_is_compared(
    scores: tuple[pd.DataFrame, dict[str, str], Path],
) -> None:
    frame, chosen, _ = scores
    mine = frame[frame["case_id"] == chosen["two_faces"]].set_index("column")["value"]
    assert mine["n_faces@strict[mtcnn]"] == 2


def test_every_miss_says_which_file_and_why(
    scores: tuple[pd.DataFrame, dict[str, str], Path],
) -> None:
    _, chosen, runs = scores
    (run,) = (path.parent for path in runs.rglob("run.json"))
    with RunStore.open(run) as store:
        failed = {sample.case_id: str(sample.detail) for sample in store.samples("failed")}
    assert "pixels" in failed[chosen["huge"]]
    assert "more than one frame" in failed[chosen["animated"]]
    for name in ("truncated", "text", "empty"):
        assert chosen[name] in failed[chosen[name]], "the file is named"


def test_nothing_of_the_samples_of_insightface_is_in_the_repository() -> None:
    # t1.jpg has no stated licence: it is read in place, never copied (suites.md 4.12).
    spec = find_spec("insightface")
    assert spec is not None
    assert spec.submodule_search_locations
    picture = Path(spec.submodule_search_locations[0]) / "data" / "images" / "t1.jpg"
    root = Path(__file__).parents[2]
    copies = [
        path
        for folder in ("bench", "metrics", "methods", "prompts", "results", "tests")
        for path in (root / folder).rglob("*")
        if path.is_file() and path.stat().st_size == picture.stat().st_size
    ]
    assert not copies
