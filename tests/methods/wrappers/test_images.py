"""A folder of images: which file is whose, and what is not read."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from idbench.methods.protocol import Failure, Request
from idbench.methods.registry import build
from idbench.methods.wrappers import image_file
from idbench.methods.wrappers.images import Images

CASE = "c0123456789abcdef"


def request(sample=0, **changes):
    fields = {"case_id": CASE, "sample": sample, "seed": 1, "prompt": ""}
    return Request(**(fields | changes))


def answer(folder, asked=None):
    (found,) = Images(dir=folder).generate([asked or request()])
    return found


def save(path, level=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (level, 0, 0)).save(path, **options)


def level(found):
    assert isinstance(found, Image.Image), found
    assert found.mode == "RGB"
    return found.getpixel((0, 0))[0]


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        (f"{CASE}/002.png", 2),
        (f"{CASE}_2.webp", 2),
        (f"{CASE}/000.bmp", 0),
        (f"{CASE}_0.tiff", 0),
        (f"{CASE}.png", 0),
        (f"{CASE}.PNG", 0),
        ("reference-03/002.png", 2),
        ("reference-03_2.png", 2),
        ("reference-03.png", 0),
    ],
)
def test_each_naming_rule_finds_its_image(tmp_path, name, sample):
    options = {"lossless": True} if name.endswith("webp") else {}
    save(tmp_path / name, 77, **options)
    assert level(answer(tmp_path, request(sample, alias="reference-03"))) == 77


def test_the_case_id_comes_before_the_alias_and_folders_before_files(tmp_path):
    names = [f"{CASE}/000.png", f"{CASE}_0.png", f"{CASE}.png", "alias/000.png", "alias.png"]
    for number, name in enumerate(names):
        save(tmp_path / name, 10 + number)
    for number, name in enumerate(names):
        assert level(answer(tmp_path, request(alias="alias"))) == 10 + number
        (tmp_path / name).unlink()


def test_a_name_without_a_number_is_sample_0_only(tmp_path):
    save(tmp_path / f"{CASE}.png")
    missing = answer(tmp_path, request(1))
    assert isinstance(missing, Failure)
    assert missing.reason == "no_image"
    assert f"{CASE}/001.png" in missing.detail


def test_a_missing_image_costs_only_its_own_sample(tmp_path):
    save(tmp_path / f"{CASE}/000.png", 1)
    save(tmp_path / f"{CASE}/002.png", 2)
    answers = Images(dir=tmp_path).generate([request(0), request(1), request(2)])
    assert [isinstance(found, Image.Image) for found in answers] == [True, False, True]
    assert [level(answers[0]), level(answers[2])] == [1, 2]


def test_two_files_of_one_name_are_ambiguous(tmp_path):
    save(tmp_path / f"{CASE}.png")
    save(tmp_path / f"{CASE}.jpg")
    assert answer(tmp_path) == Failure(
        "ambiguous", f"several files for one sample: {CASE}.png, {CASE}.jpg"
    )


def test_another_size_than_asked_for_is_a_failure(tmp_path):
    save(tmp_path / f"{CASE}.png")
    assert level(answer(tmp_path, request(width=4, height=3))) == 0
    found = answer(tmp_path, request(width=8, height=3))
    assert found == Failure("wrong_size", "asked for 8 x 3 pixels, got 4 x 3")


@pytest.mark.parametrize("escape", ["../secret", "folder/../../secret", "{outside}/secret"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, escape):
    save(tmp_path / "secret.png")
    folder = tmp_path / "images"
    (folder / "folder").mkdir(parents=True)
    name = escape.format(outside=tmp_path)
    for asked in (request(case_id=name), request(alias=name)):
        found = answer(folder, asked)
        assert isinstance(found, Failure)
        assert found.reason == "outside"


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path):
    save(tmp_path / "secret.png")
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / f"{CASE}.png").symlink_to(tmp_path / "secret.png")
    assert answer(folder).reason == "outside"
    before = Images(dir=folder).fingerprint()
    save(tmp_path / "secret.png", 9)
    assert Images(dir=folder).fingerprint() == before


def test_links_within_the_folder_are_followed(tmp_path):
    save(tmp_path / "pool" / "7.png", 7)
    (tmp_path / f"{CASE}.png").symlink_to(tmp_path / "pool" / "7.png")
    assert level(answer(tmp_path)) == 7


def test_names_too_long_for_the_file_system_are_missing(tmp_path):
    assert answer(tmp_path, request(case_id="c" * 5000)).reason == "no_image"
    assert answer(tmp_path, request(case_id="c\0")).reason == "no_image"


def test_the_fingerprint_is_the_content(tmp_path):
    one, two = tmp_path / "one" / "set", tmp_path / "two" / "set"
    for folder in (one, two):
        save(folder / f"{CASE}.png", 1)
    assert Images(dir=one).fingerprint() == Images(dir=two).fingerprint()
    save(two / f"{CASE}.png", 2)
    assert Images(dir=one).fingerprint() != Images(dir=two).fingerprint()
    (two / f"{CASE}.png").rename(two / f"{CASE}_0.png")
    save(two / f"{CASE}_0.png", 1)
    assert Images(dir=one).fingerprint() != Images(dir=two).fingerprint()


def test_it_is_built_by_name_and_called_after_its_folder(tmp_path):
    folder = tmp_path / "their results"
    save(folder / f"{CASE}.png", 5)
    method = build(f"images:{folder}")
    assert method.name == "their-results"
    assert build("images", {"dir": str(folder), "label": "theirs"}).name == "theirs"
    assert level(method.generate([request()])[0]) == 5


class TestReadImage:
    def test_orientation_is_applied(self, tmp_path):
        pixels = np.zeros((4, 6, 3), np.uint8)
        pixels[0] = 255  # the top row
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown turned clockwise by 90 degrees
        Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
        found = np.asarray(image_file.read_image(tmp_path / "a.png"))
        assert found.shape == (6, 4, 3)
        assert (found[:, -1] == 255).all()  # the top row has become the right column
        assert (found[:, :-1] == 0).all()

    def test_cmyk_becomes_rgb(self, tmp_path):
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
        red, green, blue = image_file.read_image(tmp_path / "a.jpg").getpixel((4, 4))
        assert red > 240
        assert max(green, blue) < 15

    def test_sixteen_bits_become_eight(self, tmp_path):
        Image.fromarray(np.full((4, 4), 200 * 257, np.uint16)).save(tmp_path / "a.png")
        assert image_file.read_image(tmp_path / "a.png").getpixel((0, 0)) == (200, 200, 200)

    def test_an_animation_is_refused(self, tmp_path):
        frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (0, 255)]
        for name in ("a.gif", "a.webp", "a.png"):
            frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
            assert image_file.read_image(tmp_path / name).reason == "animated"

    def test_a_truncated_file_is_refused(self, tmp_path):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
        for name in ("a.png", "a.jpg"):
            image.save(tmp_path / name)
            content = (tmp_path / name).read_bytes()
            for length in (len(content) // 2, len(content) - 30, 20):
                (tmp_path / name).write_bytes(content[:length])
                found = image_file.read_image(tmp_path / name)
                assert isinstance(found, Failure), (name, length)
                assert found.reason in ("unreadable", "not_an_image")

    @pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
    def test_other_bytes_are_refused(self, tmp_path, content):
        (tmp_path / "a.png").write_bytes(content)
        found = image_file.read_image(tmp_path / "a.png")
        assert isinstance(found, Failure)
        assert found.reason in ("not_an_image", "unreadable")

    def test_enormous_images_are_refused_before_they_are_decoded(self, tmp_path):
        # A header that claims 12000 x 12000 pixels, over this reader's limit and under the one at
        # which Pillow raises, and one of 60000 x 60000 over both, with hardly any data.
        for side in (12000, 60000):
            header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
            chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
            content = b"\x89PNG\r\n\x1a\n" + b"".join(
                struct.pack(">I", len(data))
                + kind
                + data
                + struct.pack(">I", zlib.crc32(kind + data))
                for kind, data in chunks
            )
            (tmp_path / "a.png").write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = image_file.read_image(tmp_path / "a.png")
            assert isinstance(found, Failure)
            assert found.reason == "too_large"

    def test_folders_and_missing_files_are_failures(self, tmp_path):
        assert image_file.read_image(tmp_path).reason == "unreadable"
        assert image_file.read_image(tmp_path / "a.png").reason == "no_image"
