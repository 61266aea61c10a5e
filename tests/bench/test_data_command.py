"""`idbench data` from an empty folder to a suite that baselines run on."""

import json
from pathlib import Path

import pytest
from PIL import Image

from idbench.cli import main
from idbench.prompts.acquisition.layouts import msbench_table


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "data"
    monkeypatch.setenv("IDBENCH_DATA", str(root))
    for name in ("IDBENCH_ACCEPT", "IDBENCH_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of MS-Bench with pictures of one colour each."""
    root = tmp_path / "my clone (1)"
    for number, subject in enumerate(msbench_table()["subjects"]):
        path = root / subject["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24), (6 * number, 100, 50)).save(path)
    return root


def _run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def test_every_source_and_its_state_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("data", "list") == 0
    text = capsys.readouterr().out
    for name in ("ibench: absent", "embedded: always available", "celeba: absent"):
        assert name in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_info_shows_terms_and_the_manual_route(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("data", "info", "celeba") == 0
    text = capsys.readouterr().out
    assert "non-commercial research" in text
    assert "idbench data import celeba FOLDER" in " ".join(text.split())


def test_from_a_users_copy_to_images_of_a_baseline(
    clone: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("data", "build", "msbench") == 2
    assert "idbench data fetch msbench" in capsys.readouterr().err
    assert _run("data", "import", "msbench", clone) == 0
    assert "complete: 40 of 40 files" in capsys.readouterr().out
    assert _run("data", "path", "msbench") == 0
    assert capsys.readouterr().out.strip() == str(clone)
    assert _run("data", "build", "msbench") == 0
    assert "4,488 cases (4,488 distinct)" in capsys.readouterr().out
    assert _run("list", "suites", "msbench") == 0
    assert "not here" not in capsys.readouterr().out
    runs = tmp_path / "runs"
    words = ("generate", "--suite", "msbench", "--method", "copy", "--method", "swap")
    assert _run(*words, "--limit", "3", "--output", runs) == 0
    assert len(list(runs.glob("msbench/*/images/*/*.png"))) == 6
    assert _run("data", "rm", "msbench") == 0
    assert clone.is_dir()
    assert _run("data", "verify", "msbench") == 5


def test_a_partial_copy_is_refused_or_renamed(
    clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clone / "msbench" / "downwearing" / "jeans.png").unlink()
    assert _run("data", "import", "msbench", clone) == 3
    assert "1 missing (msbench/downwearing/jeans.png)" in capsys.readouterr().out
    assert _run("data", "build", "msbench") == 2
    assert "1 of 40 files of msbench are missing" in capsys.readouterr().err
    assert _run("data", "build", "msbench", "--allow-partial") == 0
    assert "msbench+partial version 1: 4,272 cases" in capsys.readouterr().out
    words = ("generate", "--suite", "msbench+partial", "--method", "copy", "--limit", "1")
    assert _run(*words, "--output", tmp_path / "runs") == 0


def test_a_changed_picture_stops_a_run(clone: Path, tmp_path: Path) -> None:
    assert _run("data", "import", "msbench", clone) == 0
    assert _run("data", "build", "msbench") == 0
    Image.new("RGB", (5, 5)).save(clone / "msbench" / "living" / "cat.jpg")
    words = ("generate", "--suite", "msbench", "--method", "copy", "--limit", "1")
    assert _run(*words, "--output", tmp_path / "runs") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fetch", "ibench"), "accept them with: --accept ibench-unlicensed"),
        (("fetch", "nonsense"), "unknown source 'nonsense'; known: ibench"),
        (("fetch", "crowdhuman"), "cannot be fetched; register at crowdhuman.org"),
        (("build", "nonsense"), "unknown suite 'nonsense'; known: demo"),
        (("build", "editedid-restore"), "it is not published; score existing images with"),
        (("build", "editedid-proxy"), "needs an editor"),
        (("build", "msbench", "--total", "3"), "are for editedid-proxy"),
        (("build", "msbench", "--variant", "x"), "--variant must be NAME=VALUE"),
        (("verify", "nonsense"), "unknown source"),
        (("import", "msbench", "/no/such/folder"), "does not exist"),
        (("path", "celeba"), "source celeba is not here"),
        (("rm", "nonsense"), "unknown source"),
    ],
)
def test_bad_words_say_what_to_do(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("data", *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_offline_makes_no_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _run("data", "fetch", "msbench") == 2
    assert "HF_HUB_OFFLINE is set, so no network call is made" in capsys.readouterr().err
    assert _run("data", "fetch", "msbench", "--dry-run") == 0


def test_a_suite_fetches_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("data", "fetch", "flexip187", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["hub", "git"]


def test_accepted_terms_are_kept_with_their_date(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fashion"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "images" / "a.png")
    words = ("data", "import", "deepfashion_mm", folder)
    assert _run(*words) == 2
    assert _run(*words, "--accept", "deepfashion_mm") == 0
    state = json.loads((data / "sources" / "deepfashion_mm" / "state.json").read_text())
    (accepted,) = state["accepted"]
    assert accepted["terms"] == "deepfashion_mm"
    assert len(accepted["text_sha256"]) == 64
    assert accepted["date"].endswith("+00:00")
