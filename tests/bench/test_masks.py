"""Masks that people made: registered by content, read beside the image, never silently replaced."""

from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from idbench import evaluate, extraction
from idbench.cli import main
from idbench.evaluate import ScoreOptions, score
from idbench.extraction import ExtractOptions, Graph, Input, extract
from idbench.features import FeatureStore
from idbench.generate import GenerateOptions, generate
from idbench.masks import import_masks, masks_in, read_mask
from idbench.method_spec import MethodSpec
from idbench.metrics.images import ImageError, sha256_of
from idbench.metrics.protocol import MetricInfo, Missing
from idbench.store import load_frame


def picture(path, colour, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def mask(path, box, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = Image.new("L", size, 0)
    drawn.paste(255, box)
    drawn.save(path)
    return path


@pytest.fixture
def folders(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    picture(images / "a" / "cat.png", "red")
    picture(images / "dog.png", "blue")
    mask(masks / "a" / "cat.png", (1, 1, 3, 2))
    return images, masks


def test_a_mask_belongs_to_the_image_of_its_name_and_is_found_by_content(folders, tmp_path):
    images, masks = folders
    done = import_masks(images, masks, tmp_path / "data")
    assert (done.added, done.known, [path.name for path in done.without]) == (1, 0, ["dog.png"])
    registered = masks_in(tmp_path / "data")
    assert list(registered) == [sha256_of(images / "a" / "cat.png")]
    expected = np.zeros((4, 6), bool)
    expected[1, 1:3] = True
    (stored,) = registered.values()
    np.testing.assert_array_equal(read_mask(stored), expected)
    again = import_masks(images, masks, tmp_path / "data")
    assert (again.added, again.known) == (0, 1)


def test_a_registered_mask_is_not_replaced(folders, tmp_path):
    images, masks = folders
    import_masks(images, masks, tmp_path / "data")
    mask(masks / "a" / "cat.png", (0, 0, 6, 4))
    with pytest.raises(ValueError, match="has another mask already"):
        import_masks(images, masks, tmp_path / "data")


def test_a_mask_of_another_size_or_without_a_subject_is_refused(folders, tmp_path):
    images, masks = folders
    mask(masks / "dog.png", (0, 0, 1, 1), size=(4, 6))
    with pytest.raises(ValueError, match=r"is 4 x 6 pixels, its image .* 6 x 4"):
        import_masks(images, masks, tmp_path / "data")
    mask(masks / "dog.png", (0, 0, 0, 0))
    with pytest.raises(ValueError, match="shows no subject"):
        import_masks(images, masks, tmp_path / "data")
    assert not masks_in(tmp_path / "data")


def test_a_changed_mask_is_noticed(folders, tmp_path):
    import_masks(*folders, tmp_path / "data")
    (stored,) = masks_in(tmp_path / "data").values()
    mask(stored.path, (0, 0, 6, 4))
    with pytest.raises(ImageError, match="changed"):
        read_mask(stored)


class Area:
    """How many pixels the mask has."""

    name = "subject.masks"
    needs = ()
    reads = "image_mask"

    def fingerprint(self):
        return {"name": self.name}

    def __call__(self, items):
        return [
            Missing("no_mask") if item.mask is None else {"area": np.array(item.mask.sum())}
            for item in items
        ]


def test_an_image_is_read_with_its_mask_and_again_when_one_arrives(folders, tmp_path):
    images, masks = folders
    path = images / "a" / "cat.png"
    key = sha256_of(path)
    graph = Graph(["subject.masks"], "cpu", "float32", lambda *_, **__: Area())
    store = FeatureStore(tmp_path / "features.sqlite")

    def found():
        entry = Input(key, path, mask=masks_in(tmp_path / "data").get(key))
        extract([(entry, ["subject.masks"])], graph, store, ExtractOptions())
        own = graph.key("subject.masks", entry)
        return store.get([own], graph.fingerprints["subject.masks"])[own]

    assert found() == Missing("no_mask")
    import_masks(images, masks, tmp_path / "data")
    assert found()["area"] == 2
    store.close()


def test_the_command_counts_and_wrong_folders_are_named(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    images, masks = map(str, folders)
    assert main(["data", "masks", images, masks]) == 0
    assert "1 masks registered, 0 were there, 1 images have none" in capsys.readouterr().out
    assert main(["data", "masks", images, str(tmp_path / "nowhere")]) == 2
    assert "nowhere is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["data", "masks", images, str(tmp_path / "empty")]) == 2
    assert "a/b.jpg belongs to a/b.png" in capsys.readouterr().err


class MaskedArea:
    """The area of the mask of the generated image."""

    info = MetricInfo(
        name="masked_area", protocol="strict", backend="test", summary="test", unit="pixels",
        higher_is_better=None, bounds=(0, 1e6), axis="quality",
    )  # fmt: skip
    needs: ClassVar = {"generated": ("subject.masks",), "reference": ("subject.masks",)}
    version = 1

    def __call__(self, observation):
        observation.get("reference", "subject.masks")
        return {"": float(observation.get("generated", "subject.masks")["area"])}


def test_a_sample_that_had_no_mask_is_scored_when_it_has_one(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "resolve", lambda names: [MaskedArea()])
    monkeypatch.setattr(evaluate, "resolve_sets", lambda names: [])
    monkeypatch.setattr(extraction, "build_extractor", lambda *_, **__: Area())
    data, runs = tmp_path / "data", tmp_path / "runs"
    (made,) = generate(
        pictures, [MethodSpec(name="copy")], GenerateOptions(workspace=runs, data_root=data)
    )
    options = ScoreOptions(workspace=runs, data_root=data, workers=1)

    def scored():
        (done,) = score([(made.directory, pictures)], ["masked_area"], options)
        return done.scored, list(load_frame([runs])[0]["reason"])

    assert scored() == (6, ["no_mask"] * 6)
    for number in range(3):
        mask(tmp_path / "masks" / f"{number}.png", (0, 0, 5, 2), size=(24, 16))
    import_masks(tmp_path / "pictures", tmp_path / "masks", data)
    # The references have masks now, the images that the method made have none yet.
    assert scored() == (6, ["no_mask"] * 6)
    images = made.directory / "images"
    for path in images.rglob("*.png"):
        mask(tmp_path / "more" / path.relative_to(images), (0, 0, 5, 2), size=(24, 16))
    import_masks(images, tmp_path / "more", data)
    assert scored() == (6, [""] * 6)
    assert set(load_frame([runs])[0]["value"]) == {10.0}
    assert scored() == (0, [""] * 6)
