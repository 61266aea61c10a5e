"""Generation: every planned sample ends as an image or as a reason, once, whatever happens."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idbench.cli import main
from idbench.files import StorageError
from idbench.generate import GenerateOptions, generate, sample_seed
from idbench.method_spec import MethodSpec
from idbench.prompts.cases import hashed_seed
from idbench.prompts.suites import Suite
from idbench.records import Sample
from idbench.store import RunError, RunStore

COUNTING = """
    from pathlib import Path
    from PIL import Image
    LOG = Path(__file__).with_name("made.txt")

    class Method:
        def generate(self, requests):
            with LOG.open("a") as log:
                log.writelines(f"{request.case_id} {request.seed}\\n" for request in requests)
            return [r.references[0].image for r in requests]
"""


def options(tmp_path: Path, **changes: object) -> GenerateOptions:
    values = {"workspace": tmp_path / "runs", "data_root": tmp_path / "data"} | changes
    return GenerateOptions(**values)


def samples_of(directory: Path) -> list[Sample]:
    with RunStore.open(directory) as store:
        return store.samples()


def made(tmp_path: Path) -> list[str]:
    return (tmp_path / "made.txt").read_text().splitlines()


def test_every_case_gets_its_image_and_seed(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    (done,) = generate(pictures, [MethodSpec(name=method_file(COUNTING))], options(tmp_path))
    assert (done.made, done.kept, done.failed) == (6, 0, 0)
    for sample in samples_of(done.directory):
        assert sample.seed == hashed_seed(sample.case_id, 0)
        assert sample.path is not None
        with Image.open(done.directory / sample.path) as image:
            case = pictures.case(sample.case_id)
            with Image.open(tmp_path / "pictures" / case.references[0].path) as reference:
                assert np.array_equal(np.asarray(image), np.asarray(reference))
            assert (sample.width, sample.height) == image.size == (24, 16)


def test_a_finished_run_is_left_alone(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    spec = MethodSpec(name=method_file(COUNTING))
    generate(pictures, [spec], options(tmp_path))
    (again,) = generate(pictures, [spec], options(tmp_path))
    assert (again.made, again.kept) == (0, 6)
    assert len(made(tmp_path)) == 6


def test_a_limit_makes_the_first_cases_and_a_larger_one_the_rest(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    spec = MethodSpec(name=method_file(COUNTING))
    generate(pictures, [spec], options(tmp_path, limit=2))
    first = [case.case_id for case in pictures.cases][:2]
    assert [line.split()[0] for line in made(tmp_path)] == first
    (done,) = generate(pictures, [spec], options(tmp_path))
    assert (done.made, done.kept) == (4, 2)
    assert len(set(made(tmp_path))) == 6


def test_a_lost_image_is_made_again(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    spec = MethodSpec(name=method_file(COUNTING))
    (done,) = generate(pictures, [spec], options(tmp_path))
    lost = samples_of(done.directory)[3]
    (done.directory / str(lost.path)).unlink()
    (again,) = generate(pictures, [spec], options(tmp_path))
    assert again.made == 1
    assert made(tmp_path)[-1].split()[0] == lost.case_id


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (4, 1), (2, 2)])
def test_images_do_not_depend_on_batches_and_workers(
    pictures: Suite, tmp_path: Path, batch_size: int, workers: int
) -> None:
    specs = [MethodSpec(name="noise"), MethodSpec(name="warp")]
    expected = generate(pictures, specs, options(tmp_path, workspace=tmp_path / "one"))
    found = generate(
        pictures,
        specs,
        options(tmp_path, workspace=tmp_path / "two", batch_size=batch_size, workers=workers),
    )
    for one, two in zip(expected, found, strict=True):
        hashes = [(s.case_id, s.sha256) for s in samples_of(one.directory)]
        assert hashes == [(s.case_id, s.sha256) for s in samples_of(two.directory)]


BAD_ANSWERS = """
    import numpy as np
    from PIL import Image

    class Method:
        def generate(self, requests):
            answers = []
            for request in requests:
                if request.case_id == {case!r}:
                    answers.append({answer})
                else:
                    answers.append(request.references[0].image)
            return answers
"""


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        ("1 / 0", "error", "ZeroDivisionError"),
        ("None", "no_image", "None"),
        ("np.full((16, 24, 3), np.nan)", "not_finite", "NaN"),
        ("np.zeros((16, 24, 2), np.uint8)", "not_an_image", "(16, 24, 2)"),
        ("'text'", "not_an_image", "str"),
        ("Image.new('RGB', (0, 4))", "not_an_image", "0 x 4"),
    ],
)
def test_a_bad_answer_costs_only_its_own_sample(
    pictures: Suite,
    method_file: Callable[[str], str],
    tmp_path: Path,
    answer: str,
    reason: str,
    detail: str,
) -> None:
    bad = pictures.cases[2].case_id
    name = method_file(BAD_ANSWERS.format(case=bad, answer=answer))
    (done,) = generate(pictures, [MethodSpec(name=name)], options(tmp_path))
    assert (done.made, done.failed, done.all_failed) == (5, 1, 1)
    (failed,) = [s for s in samples_of(done.directory) if s.status == "failed"]
    assert (failed.case_id, failed.reason) == (bad, reason)
    assert detail in str(failed.detail)


def test_a_wrong_number_of_answers_is_charged_to_each_sample(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    name = method_file("class Method:\n    def generate(self, requests):\n        return []\n")
    (done,) = generate(pictures, [MethodSpec(name=name)], options(tmp_path))
    assert done.failed == 6
    assert {s.reason for s in samples_of(done.directory)} == {"wrong_count"}


NOTING = """
    from PIL import Image

    class Method:
        def generate(self, requests):
            images = [r.references[0].image.copy() for r in requests]
            for number, image in enumerate(images):
                image.info["idbench.notes"] = [{"w": [0.5, 1.5]}, {"w": {1}}, "text"][number % 3]
            return images
"""


def test_what_a_method_notes_is_kept_with_the_sample(
    pictures: Suite,
    method_file: Callable[[str], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (done,) = generate(pictures, [MethodSpec(name=method_file(NOTING))], options(tmp_path))
    noted, broken, other = samples_of(done.directory)[:3]
    assert noted.notes == '{"w":[0.5,1.5]}'
    assert (broken.reason, broken.notes) == ("bad_notes", None)
    assert (other.status, other.notes) == ("ok", None)
    assert main(["export", "--notes", str(done.directory)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["case_id"] == noted.case_id
    assert [line["notes"] for line in lines] == [{"w": [0.5, 1.5]}] * 2


def test_a_wrong_size_is_recorded(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    name = method_file(COUNTING)
    (done,) = generate(pictures, [MethodSpec(name=name)], options(tmp_path, size=(32, 32)))
    reasons = {(s.reason, s.detail) for s in samples_of(done.directory)}
    assert reasons == {("wrong_size", "asked for 32 x 32 pixels, got 24 x 16")}


def test_failures_are_tried_again_only_on_demand(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    source = """
        from pathlib import Path
        TRIES = Path(__file__).with_name("tries.txt")

        class Method:
            def generate(self, requests):
                with TRIES.open("a") as log:
                    log.write("x" * len(requests))
                if len(TRIES.read_text()) <= {limit}:
                    raise RuntimeError("not yet")
                return [r.references[0].image for r in requests]
    """
    # 6 at once, then each by itself.
    spec = MethodSpec(name=method_file(source.format(limit=12)))
    (first,) = generate(pictures, [spec], options(tmp_path))
    assert first.failed == 6
    (second,) = generate(pictures, [spec], options(tmp_path))
    assert (second.made, second.failed, second.all_failed) == (0, 0, 6)
    (third,) = generate(pictures, [spec], options(tmp_path, retry_failed=True))
    assert (third.made, third.all_failed) == (6, 0)


def test_a_changed_reference_fails_its_cases_before_anything_is_made(
    pictures: Suite, tmp_path: Path
) -> None:
    (tmp_path / "pictures" / "1.png").write_bytes(b"something else")
    with pytest.raises(ValueError, match="frozen with"):
        generate(pictures, [MethodSpec(name="copy")], options(tmp_path))


def test_a_second_driver_is_refused(pictures: Suite, tmp_path: Path) -> None:
    (done,) = generate(pictures, [MethodSpec(name="copy")], options(tmp_path))
    # flock belongs to the open file, so the same process counts as a second driver.
    refused = pytest.raises(RunError, match="another process")
    with RunStore.open(done.directory) as store, store.writing(), refused:
        generate(pictures, [MethodSpec(name="copy")], options(tmp_path))


def test_an_unwritable_workspace_is_a_storage_error(pictures: Suite, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="cannot write"):
        generate(pictures, [MethodSpec(name="copy")], options(tmp_path))


def test_seeds_are_hashed_or_fixed() -> None:
    assert sample_seed("hashed", "cded8f8cbfaad2316", 1) == 533022614  # suites.md 3.5
    assert sample_seed("fixed:42", "cded8f8cbfaad2316", 3) == 45


def test_a_method_gets_a_distractor_of_another_identity(pictures: Suite, tmp_path: Path) -> None:
    (done,) = generate(pictures, [MethodSpec(name="swap")], options(tmp_path))
    for sample in samples_of(done.directory):
        own = pictures.case(sample.case_id).references[0]
        with (
            Image.open(done.directory / str(sample.path)) as image,
            Image.open(tmp_path / "pictures" / own.path) as reference,
        ):
            assert image.getpixel((5, 5)) != reference.getpixel((5, 5))


DEADLY = """
    import os, signal, time

    class Method:
        def generate(self, requests):
            for request in requests:
                if request.case_id == {case!r}:
                    {fault}
            return [request.references[0].image for request in requests]
"""


@pytest.mark.parametrize(
    ("fault", "changes", "detail"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", {"workers": 2}, "its worker died"),
        ("time.sleep(600)", {"timeout": 8.0}, "its worker hung"),
    ],
)
def test_a_sample_that_kills_or_hangs_its_worker_is_poison(
    pictures: Suite,
    method_file: Callable[[str], str],
    tmp_path: Path,
    fault: str,
    changes: dict[str, object],
    detail: str,
) -> None:
    bad = pictures.cases[1].case_id
    spec = MethodSpec(name=method_file(DEADLY.format(case=bad, fault=fault)))
    (done,) = generate(pictures, [spec], options(tmp_path, **changes))
    assert (done.made, done.failed) == (5, 1)
    (failed,) = [s for s in samples_of(done.directory) if s.status == "failed"]
    assert (failed.case_id, failed.reason) == (bad, "poison")
    assert detail in str(failed.detail)


HUNGRY = """
    from pathlib import Path
    LOG = Path(__file__).with_name("sizes.txt")

    class OutOfMemoryError(RuntimeError):
        pass

    class Method:
        def generate(self, requests):
            with LOG.open("a") as log:
                log.write(f"{len(requests)} ")
            if len(requests) > 2:
                raise OutOfMemoryError("no room")
            return [request.references[0].image for request in requests]
"""


def test_a_batch_that_does_not_fit_is_halved_and_the_size_remembered(
    pictures: Suite, method_file: Callable[[str], str], tmp_path: Path
) -> None:
    spec = MethodSpec(name=method_file(HUNGRY))
    (done,) = generate(pictures, [spec], options(tmp_path, batch_size=5))
    assert (done.made, done.failed) == (6, 0)
    # 5 do not fit; halves of 2 do, also for the last one.
    assert (tmp_path / "sizes.txt").read_text().split() == ["5", "2", "2", "1", "1"]
