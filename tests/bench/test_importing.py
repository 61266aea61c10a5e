"""Images that others made, from the command line to a table, and back out."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image, ImageFilter

from idbench.cli import main
from idbench.prompts.formats import ibench
from idbench.prompts.formats.paths import PathRules
from idbench.prompts.importing import assemble
from idbench.store import RunStore, load_frame

needs_embedded = pytest.mark.skipif(
    not all(map(find_spec, ("skimage", "insightface", "torch", "dlib", "mtcnn"))),
    reason="the embedded backend and its photographs are not installed",
)


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))


def _list(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "datas.json"
    path.write_text(json.dumps({"datas": rows, "tags": {"category": "imageid"}}))
    return path


def _picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (level, 40, 90)).save(path)


@pytest.fixture
def small_list(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    rows: list[dict[str, object]] = []
    for number in range(4):
        for name in ("id", "with", "without"):
            _picture(folder / name / f"{number}.png", 10 * number + len(name))
        rows.append(
            {
                "num": number,
                "id": f"id/{number % 2}.png",
                "prompt": f"prompt {number // 2}",
                "prompt_attr": ["long"],
                "prompt_style": [],
                "imagewithid": f"with/{number}.png",
                "imagewithoutid": f"without/{number}.png",
            }
        )
    return _list(folder, rows)


def _run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def _only_run(workspace: Path, method: str) -> Path:
    (found,) = [path.parent for path in workspace.glob(f"adhoc/{method}-*/run.json")]
    return found


def test_an_import_is_a_run_with_links_tags_and_a_base(small_list: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert _run("import", "ibench", small_list, "--method", "theirs", "--output", runs) == 0
    directory = _only_run(runs, "theirs")
    with RunStore.open(directory) as store:
        rows = store.planned()
    assert len(rows) == 4
    for sample, identity, multiplicity, tags in rows:
        assert sample.status == "ok"
        assert sample.path is not None
        assert (directory / sample.path).is_symlink()
        assert (sample.width, sample.height) == (16, 16)
        assert (identity[0], multiplicity) == ("r", 1)
        assert tags["prompt_attr"] == ["long"]
    assert len(list(_only_run(runs, "base").glob("images/*/*.png"))) == 4


def test_a_list_by_a_relative_path(
    small_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    words = ("import", "ibench", "../theirs/datas.json", "--method", "theirs")
    assert _run(*words) == 0
    directory = _only_run(Path("runs"), "theirs")
    assert all(path.resolve().is_file() for path in directory.glob("images/*/*.png"))


def test_the_same_import_again_changes_nothing(small_list: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for _ in range(2):
        assert _run("import", "ibench", small_list, "--method", "theirs", "--output", runs) == 0
    assert len(list(runs.glob("adhoc/*/run.json"))) == 2


def test_copies_survive_the_originals(small_list: Path, tmp_path: Path) -> None:
    words = ("import", "ibench", small_list, "--method", "theirs", "--output", tmp_path / "runs")
    assert _run(*words, "--copy") == 0
    directory = _only_run(tmp_path / "runs", "theirs")
    images = list(directory.glob("images/*/*.png"))
    assert len(images) == 4
    assert not any(path.is_symlink() for path in images)


def test_missing_files_stop_an_import_unless_allowed(
    small_list: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_list.parent / "with" / "2.png").unlink()
    words = ("import", "ibench", small_list, "--method", "theirs", "--output", tmp_path / "runs")
    assert _run(*words) == 1
    text = capsys.readouterr().err
    assert "missing: datas.json, row 2: image with/2.png" in text
    assert "nothing was imported" in text
    assert not (tmp_path / "runs").exists()
    assert _run(*words, "--allow-partial") == 0
    with RunStore.open(_only_run(tmp_path / "runs", "theirs")) as store:
        assert [s.reason for s in store.samples("failed")] == ["no_image"]
        assert len(store.samples("ok")) == 3


def test_a_path_map_finds_what_moved(small_list: Path, tmp_path: Path) -> None:
    document = json.loads(small_list.read_text())
    for row in document["datas"]:
        for key in ("id", "imagewithid", "imagewithoutid"):
            row[key] = "/home/somebody/IBench/" + row[key]
    small_list.write_text(json.dumps(document))
    words = ("import", "ibench", small_list, "--method", "theirs", "--output", tmp_path / "runs")
    assert _run(*words) == 1
    assert _run(*words, "--path-map", f"/home/somebody/IBench/={small_list.parent}") == 0


def test_an_unknown_layout_or_suite_is_a_usage_error(
    small_list: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _run("import", "nonsense", small_list, "--method", "x")
    assert _run("import", "ibench", small_list, "--method", "x", "--suite", "tiny-singel") == 2
    assert "known: demo, tiny-single" in capsys.readouterr().err


def test_an_exported_run_is_imported_again_without_loss(small_list: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert _run("import", "ibench", small_list, "--method", "theirs", "--output", runs) == 0
    directory, base = _only_run(runs, "theirs"), _only_run(runs, "base")
    out = tmp_path / "out"
    assert _run("export", "ibench", directory, "--base", base, "-o", out) == 0
    first = assemble(ibench.read(small_list, PathRules(folder=small_list.parent)))
    second = assemble(ibench.read(out / "datas.json", PathRules(folder=out)))
    assert [c.case_id for c in second.suite.cases] == [c.case_id for c in first.suite.cases]
    for one, two in zip(first.images, second.images, strict=True):
        assert one.path is not None
        assert two.path is not None
        assert one.path.read_bytes() == two.path.read_bytes()
        assert (one.base is None) == (two.base is None)


@pytest.mark.skipif(
    not all(map(find_spec, ("skimage", "insightface"))),
    reason="the photographs of the bundled suites are not installed",
)
@pytest.mark.parametrize(
    ("suite", "layout", "written"),
    [
        ("tiny-single", "ibench", "datas.json"),
        ("tiny-single", "table", "units.csv"),
        ("tiny-multi", "table", "units.csv"),
        ("tiny-subject", "dreambench-plus", "."),
        ("tiny-edit", "editedid", "."),
    ],
)
def test_a_run_that_was_exported_maps_back_to_the_cases_of_its_suite(
    suite: str, layout: str, written: str, tmp_path: Path
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    assert _run("generate", "--suite", suite, "--method", "jpeg", "--output", runs) == 0
    (run,) = [path.parent for path in runs.glob(f"{suite}/*/run.json")]
    assert _run("export", layout, run, "-o", out) == 0
    words = ("--method", "again", "--suite", suite, "--output", tmp_path / "again")
    assert _run("import", layout, out / written, *words) == 0
    (again,) = [path.parent for path in (tmp_path / "again").glob(f"{suite}/*/run.json")]
    assert _contents(again) == _contents(run)


def _contents(directory: Path) -> dict[tuple[str, int], str | None]:
    with RunStore.open(directory) as store:
        return {(s.case_id, s.sample): s.sha256 for s in store.samples("ok")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ibench",), "takes one run and a folder"),
        (("ibench", "a", "b", "-o", "x"), "takes one run and a folder"),
        (("a", "--base", "b"), "--base goes with a layout"),
    ],
)
def test_wrong_words_of_an_export_are_usage_errors(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("export", *words) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def real_list(tmp_path: Path) -> Path:
    """39 rows over real people, with pictures without a face and with two."""
    from idbench.prompts.materialise import materialise
    from idbench.prompts.sources import source_root
    from idbench.prompts.suites import load_suite

    data = tmp_path / "data"
    materialise(load_suite("demo", data_root=data), data)
    people = sorted((source_root("embedded", data) / "people").glob("*.ppm"))
    folder = tmp_path / "theirs"
    pictures: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: image,
        lambda image: image.filter(ImageFilter.GaussianBlur(1)),
        lambda image: image.crop((0, 200, 256, 256)),  # no face
        lambda image: _beside(image, image),  # two faces
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.resize((192, 192)),
    ]
    rows: list[dict[str, object]] = []
    for number, path in enumerate(people):
        (folder / "id").mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.save(folder / "id" / f"{number}.png")
            for kind, change in enumerate(pictures):
                if len(rows) == 39:
                    break
                name = f"out {kind}/{number}.png"
                (folder / name).parent.mkdir(exist_ok=True)
                change(image.convert("RGB")).save(folder / name)
                rows.append(
                    {
                        "num": len(rows),
                        "id": f"id/{number}.png",
                        "prompt": f"A person does thing {kind}.",
                        "prompt_attr": ["long"],
                        "prompt_style": [f"change {kind}"],
                        "imagewithid": name,
                    }
                )
    assert len(rows) == 39
    return _list(folder, rows)


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    both = Image.new("RGB", (left.width + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both


@needs_embedded
def test_39_rows_are_scored_end_to_end_with_coverage(
    real_list: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    assert _run("import", "ibench", real_list, "--method", "theirs", "--output", runs) == 0
    directory = _only_run(runs, "theirs")
    assert _run("score", directory, "--metrics", "facesim@strict[dlib]") == 0
    frame, _ = load_frame([directory])
    scores = frame[frame["column"] == "facesim@strict[dlib]"]
    kind = scores["tags"].map(lambda text: json.loads(text)["prompt_style"][0])
    by_kind = dict(list(scores.groupby(kind)))
    assert len(scores) == 39
    assert by_kind["change 0"]["value"].to_numpy() == pytest.approx(1.0)
    faceless = by_kind["change 2"]
    assert faceless["value"].isna().all()
    assert set(faceless["reason"]) <= {"no_face", "no_generated_face"}
    assert by_kind["change 3"]["value"].notna().all()  # of two faces one counts
    capsys.readouterr()
    assert _run("table", directory, "--style", "json") == 0
    text = capsys.readouterr().out
    missing = int(pd.isna(scores["value"]).sum())
    assert f"{39 - missing}" in text
    assert _run("table", directory, "--by", "prompt_style", "--style", "csv") == 0
    strata = capsys.readouterr().out
    for number in range(6):
        assert f"adhoc, prompt_style = change {number}" in strata
    assert _run("table", directory, "--by", "nonsense") == 2
    assert "no sample has the tag 'nonsense'; known: " in capsys.readouterr().err
