"""Prompts, names and messages of others through every verb: they stay text, wherever they go."""

import csv
import html.parser
import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from idbench.cli import main
from idbench.exporting import WRITERS
from idbench.metrics import registry
from idbench.metrics.extractor_entry import ExtractorEntry
from idbench.prompts.files import sha256_of
from idbench.prompts.freezing import suite_of, write_suite
from idbench.prompts.references import identified, reference_of
from idbench.prompts.sources import folder_source

# Clears a screen, rings, reorders, ends a line, a cell and a string, is a formula and markup.
HOSTILE = (
    '=HYPERLINK("http://x","y")|`a`\x1b[2J\x1b]0;t\x07\r\n\u202etxt\u2066\u200b\x9b31m'
    "/../../../x/..\\..\\"
    "</td></script><script>alert(1)</script><img src=x onerror=alert(1)>\\input{/etc/passwd}%$#&_^~"
)
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
METHOD = f"""
class Method:
    def generate(self, requests):
        found = []
        for request in requests:
            if request.seed % 4 == 0:
                raise ValueError({HOSTILE!r})
            found.append(request.references[0].image)
        return found
"""


@pytest.fixture(autouse=True)
def metrics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Metrics that need no network, as a plug-in would bring them."""
    monkeypatch.setenv("IDBENCH_DATA", str(tmp_path / "data"))
    plugin = "idbench.faults.plugin"
    sums = ExtractorEntry(target=f"{plugin}:Sums", extra="embedded")
    monkeypatch.setitem(registry.EXTRACTORS, "torture_sums", sums)
    for name, kind in (("likeness", "Likeness"), ("contrast", "Contrast")):
        monkeypatch.setitem(registry.METRICS, f"{name}@strict[torture]", f"{plugin}:{kind}")


@pytest.fixture
def workspace(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """Two runs on a suite of hostile texts, scored; nothing they said can do harm."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cases = []
    for number in range(6):
        path = pictures / f"{number}.png"
        Image.new("RGB", (12, 12), (40 * number, 90, 130)).save(path)
        reference = reference_of(
            path=path.name,
            sha256=sha256_of(path),
            source=folder_source(pictures),
            class_word=HOSTILE,
        )
        cases += [
            identified(
                "hostile",
                1,
                alias=f"{HOSTILE}{number}{prompt}",
                kind="single_id",
                references=(reference,),
                prompt=f"{HOSTILE} {prompt}",
                tags={"kind": (HOSTILE, "plain")},
            )
            for prompt in range(3)
        ]
    write_suite(suite_of(cases, name="hostile", kind="single_id"), tmp_path / "suite")
    (tmp_path / "method.py").write_text(METHOD)
    config = {
        "suite": str(tmp_path / "suite"),
        "output": str(tmp_path / "runs"),
        "workers": 1,
        "max_failures": 1.0,
        "methods": [
            {"name": f"python:{tmp_path}/method.py:Method", "label": HOSTILE},
            {"name": "mirror", "label": f"{HOSTILE}2"},
        ],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    said(capfd, "generate", str(tmp_path / "run.yaml"))
    said(capfd, "score", str(tmp_path / "runs"), "--workers", "1", "--metrics", NAMES)
    return tmp_path / "runs"


NAMES = "likeness@strict[torture],contrast@strict[torture]"


def said(capfd: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    """Runs a verb; what it prints on either stream must be harmless. Returns its output."""
    assert main(argv) == code
    out, err = capfd.readouterr()
    for line in (out + err).split("\n"):
        assert line.isprintable(), f"{argv[0]} prints {line!r}"
    return out


def runs(workspace: Path) -> list[str]:
    return [str(path.parent) for path in sorted(workspace.rglob("run.json"))]


def test_tables_in_every_style(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "table", str(workspace))
    said(capfd, "table", str(workspace), "--by", "kind")
    for style in ("markdown", "csv", "latex", "json", "terminal"):
        text = said(capfd, "table", str(workspace), "--style", style)
        if style == "latex":
            assert "\\input" not in text
        if style == "markdown":
            assert "<script" not in text
            assert "<img" not in text
        if style == "csv":
            cells_are_no_formulas(text)


def cells_are_no_formulas(text: str) -> None:
    for row in csv.reader(text.splitlines()):
        for cell in row:
            number = re.fullmatch(r"[+-]?[0-9.e+-]+|-?inf|nan", cell)
            assert number or not cell.lstrip(" ").startswith(FORMULAS), cell


def test_exports(workspace: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cells_are_no_formulas(said(capfd, "export", str(workspace)))
    document = said(capfd, "export", str(workspace), "--format", "json")
    assert HOSTILE in {row["label"] for row in json.loads(document)}, "data stay as they are"
    said(capfd, "export", runs(workspace)[0], "--format", "lm-eval")
    said(capfd, "export", str(workspace), "--notes")
    said(capfd, "export", str(workspace), "--output", str(tmp_path / "scores.csv"))
    cells_are_no_formulas((tmp_path / "scores.csv").read_text())


@pytest.mark.parametrize("layout", WRITERS)
def test_layouts_of_others_stay_in_their_folder(
    layout: str, workspace: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = set(tmp_path.rglob("*"))
    target = tmp_path / "out" / "here"
    code = main(["export", layout, runs(workspace)[1], "--output", str(target)])
    said_of_it = capfd.readouterr()
    assert code in (0, 2)  # a layout may not be able to hold such a case
    for line in (said_of_it.out + said_of_it.err).split("\n"):
        assert line.isprintable(), line
    for path in set(tmp_path.rglob("*")) - before:
        assert path == tmp_path / "out" or target in (path, *path.parents), path
        assert path.name.isprintable()


def test_comparisons_baselines_and_gates(
    workspace: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, second = runs(workspace)
    for style in ("terminal", "markdown", "csv", "json"):
        text = said(capfd, "compare", first, second, "--style", style)
        if style == "csv":
            cells_are_no_formulas(text)
        if style == "markdown":
            assert "<script" not in text
    baseline = tmp_path / "baseline.json"
    said(capfd, "baseline", "save", first, "--output", str(baseline))
    said(capfd, "baseline", "show", str(baseline))


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


def test_reports(workspace: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said(capfd, "report", str(workspace), "--output", str(tmp_path / "page"))
    tags = Tags()
    tags.feed((tmp_path / "page" / "index.html").read_text(encoding="utf-8"))
    assert "img" not in tags.found
    names = {path.name for path in (tmp_path / "page").rglob("*")}
    assert all(name.isprintable() and ".." not in name for name in names)


@pytest.mark.parametrize(
    "argv",
    [
        ["table", f"/nowhere/{HOSTILE}".replace("\0", "")],
        ["run", "--suite", HOSTILE, "--method", "copy"],
        ["run", "--suite", "demo", "--method", HOSTILE],
        ["run", "--suite", "demo", "--method", "copy", "--metrics", HOSTILE.replace(",", "")],
    ],
)
def test_errors_quote_harmlessly(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, *argv, code=2)


@pytest.fixture
def damaged(workspace: Path) -> Path:
    """A run whose run.json says hostile things of itself."""
    path = Path(runs(workspace)[0]) / "run.json"
    document = json.loads(path.read_text())
    document["format"] = HOSTILE
    path.write_text(json.dumps(document))
    return path.parent


def test_what_a_damaged_run_says_is_quoted_harmlessly(
    damaged: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said(capfd, "table", str(damaged), code=2)
