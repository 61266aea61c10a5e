"""A user's own code: fifteen lines are enough, and no error of it costs another sample."""

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idbench.methods.protocol import Capabilities, Failure, Reference, Request
from idbench.methods.registry import build, method_parameters

MOSAIC = Path(__file__).parent / "data" / "mosaic.py"


def photograph(size=(32, 24), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def request(seed=1, image=None, **changes):
    reference = Reference(image=image or photograph(), sha256="")
    fields = {"case_id": "c0", "sample": 0, "prompt": "", "references": (reference,)}
    return Request(seed=seed, **(fields | changes))


@pytest.fixture
def user_code(tmp_path):
    def write(code, name="code.py"):
        (tmp_path / name).write_text(textwrap.dedent(code))
        return f"python:{tmp_path / name}"

    return write


def test_the_example_of_the_readme_has_fifteen_lines_and_works():
    assert len(MOSAIC.read_text().splitlines()) <= 15
    method = build(f"python:{MOSAIC}:Mosaic", {"tile": "4"})
    assert method.name == "Mosaic"
    pixels = np.asarray(method.generate([request(seed=2)])[0])
    assert pixels.shape == (24, 32, 3)
    # Tiles of 4 + 2: 6 columns and 5 rows of one colour each.
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 6 * 5
    assert len(np.unique(np.asarray(photograph()).reshape(-1, 3), axis=0)) > 700


def test_a_function_of_one_request(user_code):
    target = user_code(
        """
        def darker(request, *, divisor: int = 2):
            return request.references[0].image.point(lambda value: value // divisor)
        """
    )
    image = photograph()
    method = build(f"{target}:darker", {"divisor": "4"})
    assert method.name == "darker"
    found = np.asarray(method.generate([request(image=image)])[0])
    np.testing.assert_array_equal(found, np.asarray(image) // 4)
    assert list(method_parameters(f"{target}:darker")) == ["divisor"]


def test_a_class_that_answers_batches_with_everything_declared(user_code):
    target = user_code(
        """
        from dataclasses import dataclass
        from idbench.methods.protocol import Capabilities
        from PIL import Image

        @dataclass(frozen=True)
        class Whole:
            device: str
            dtype: str
            grey: int = 3

            name = "my model"
            capabilities = Capabilities(kinds=frozenset({"subject"}), max_batch_size=2)

            def fingerprint(self):
                return {"weights": "abc"}

            def generate(self, requests):
                assert isinstance(requests, list)
                return [Image.new("L", (5, 5), self.grey + r.seed) for r in requests]
        """
    )
    method = build(f"{target}:Whole", {"grey": 9}, device="cuda:1", dtype="bfloat16")
    assert method.name == "my-model"
    assert method.capabilities == Capabilities(kinds=frozenset({"subject"}), max_batch_size=2)
    assert (method.inner.device, method.inner.dtype) == ("cuda:1", "bfloat16")
    found = method.generate([request(1), request(2)])
    assert [image.getpixel((0, 0)) for image in found] == [(10, 10, 10), (11, 11, 11)]
    fingerprint = method.fingerprint()
    assert fingerprint["own"] == {"weights": "abc"}
    assert fingerprint["parameters"] == {"grey": 9, "dtype": "bfloat16"}


def test_an_object_is_taken_as_it_is_and_takes_no_parameters(user_code):
    target = user_code(
        """
        from functools import partial
        from PIL import Image

        def plain(request, colour):
            return Image.new("RGB", (3, 3), colour)

        red = partial(plain, colour=(255, 0, 0))
        """
    )
    method = build(f"{target}:red")
    assert method.generate([request()])[0].getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(ValueError, match="is an object, not a class: it takes no parameters"):
        build(f"{target}:red", {"colour": "1"})


def test_an_error_is_the_failure_of_its_own_request(user_code):
    target = user_code(
        """
        def picky(request):
            if request.seed == 2:
                raise RuntimeError("seed 2 is unlucky")
            return request.references[0].image
        """
    )
    answers = build(f"{target}:picky").generate([request(1), request(2), request(3)])
    assert [isinstance(found, Image.Image) for found in answers] == [True, False, True]
    assert answers[1] == Failure("error", "RuntimeError: seed 2 is unlucky")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return None", "no_image"),
        ("return np.full((4, 4, 3), np.nan)", "not_finite"),
        ("return 'path.png'", "not_an_image"),
        ("return Image.new('RGB', (9, 9))", "wrong_size"),
        ("return Image.new('RGBA', (8, 8))", "transparent"),
        ("return Failure('refused', 'no')", "refused"),
        ("import does_not_exist", "error"),
        ("return Image.open(BytesIO(b'nothing'))", "error"),
    ],
)
def test_wrong_answers_are_failures_with_a_reason(user_code, body, reason):
    target = user_code(
        f"""
        from io import BytesIO
        import numpy as np
        from idbench.methods.protocol import Failure
        from PIL import Image

        def method(request):
            {body}
        """
    )
    (found,) = build(f"{target}:method").generate([request(width=8, height=8)])
    assert isinstance(found, Failure)
    assert found.reason == reason


@pytest.mark.parametrize("answers", ["[]", "None", "[None] * 3"])
def test_a_wrong_number_of_answers_is_nobodys(user_code, answers):
    target = user_code(
        f"""
        class Miscounting:
            def generate(self, requests):
                return {answers}
        """
    )
    found = build(f"{target}:Miscounting").generate([request(1), request(2)])
    assert [failure.reason for failure in found] == ["wrong_count"] * 2


def test_painting_on_a_reference_stays_without_effect(user_code):
    target = user_code(
        """
        def vandal(request):
            request.references[0].image.paste((0, 0, 0), (0, 0, 10, 10))
            return request.references[0].image
        """
    )
    image = photograph()
    before = image.tobytes()
    build(f"{target}:vandal").generate([request(image=image)])
    assert image.tobytes() == before


def test_the_fingerprint_follows_source_and_parameters_not_place(user_code, tmp_path):
    code = "def method(request, size: int = 3):\n    return request.references[0].image\n"
    first = build(f"{user_code(code, 'a.py')}:method")
    json.dumps(first.fingerprint())
    (tmp_path / "elsewhere").mkdir()
    same = build(f"{user_code(code, 'elsewhere/a.py')}:method", {"size": 3})
    assert same.fingerprint() == first.fingerprint()
    other = build(f"{user_code(code, 'a.py')}:method", {"size": 4})
    assert other.fingerprint() != first.fingerprint()
    edited = build(f"{user_code(code + '# changed', 'a.py')}:method")
    assert edited.fingerprint() != first.fingerprint()


def test_an_edited_file_is_read_again(user_code):
    for value in (5, 6):
        code = f"""
            from PIL import Image

            def method(request):
                return Image.new("RGB", (1, 1), ({value}, 0, 0))
        """
        method = build(f"{user_code(code)}:method")
        assert method.generate([request()])[0].getpixel((0, 0)) == (value, 0, 0)


def test_a_file_may_import_its_neighbours(user_code):
    user_code("LEVEL = 42", name="neighbour_of_user_code.py")
    target = user_code(
        """
        import neighbour_of_user_code
        from PIL import Image

        def method(request):
            return Image.new("RGB", (1, 1), (neighbour_of_user_code.LEVEL, 0, 0))
        """
    )
    assert build(f"{target}:method").generate([request()])[0].getpixel((0, 0)) == (42, 0, 0)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("python:no_such_package.module:Name", ImportError, "No module named.*install it, or name"),
        ("python:no/such/file.py:Name", ImportError, "there is no file no/such/file.py"),
        ("python:json:Absent", LookupError, "json has no 'Absent'"),
        (f"python:{MOSAIC}:Mosaics", LookupError, "it defines Mosaic"),
        ("python:json:decoder", ValueError, "neither generate"),
    ],
)
def test_wrong_targets_are_explained(target, error, message):
    with pytest.raises(error, match=message):
        build(target)


@pytest.mark.parametrize(
    "code", ["def broken(:", "raise RuntimeError('at import')", "import no_such"]
)
def test_a_file_that_cannot_be_imported_says_why(user_code, code):
    with pytest.raises(ImportError, match=r"cannot import .*code.py: \w+Error: "):
        build(f"{user_code(code)}:Name")


def test_an_installed_module_works_as_well():
    method = build("python:idbench.methods.baselines.geometry:Mirror")
    image = photograph()
    found = np.asarray(method.generate([request(image=image)])[0])
    np.testing.assert_array_equal(found, np.asarray(image)[:, ::-1])
    assert method.fingerprint()["own"]["method"] == "mirror"
