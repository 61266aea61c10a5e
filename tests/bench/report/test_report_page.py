import base64
import hashlib
import html.parser
import json
import re

import pytest
from PIL import Image

from idbench.prompts.suites import SuiteSource
from idbench.report_images import BLURRED_SIDE, copy_pictures, default_faces, picture_name
from idbench.report_page import render_page


class Page(html.parser.HTMLParser):
    """The elements of a page as a browser reads them, with the text of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self._inside = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = (tag, dict(attrs))
            self.texts.append([tag, dict(attrs), ""])

    def handle_data(self, data):
        if self._inside:
            self.texts[-1][2] += data

    def handle_endtag(self, tag):
        if self._inside and tag == self._inside[0]:
            self._inside = None


@pytest.fixture(scope="module")
def folder(make_report, tmp_path_factory):
    return make_report(tmp_path_factory.mktemp("page"), "--faces", "show")


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "index.html").read_text())


def policy(page):
    (content,) = [
        attrs["content"]
        for tag, attrs in page.found
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    return dict(part.strip().split(" ", 1) for part in content.split(";"))


def test_policy_admits_exactly_the_scripts_and_styles_of_the_page(page):
    rules = policy(page)
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in " ".join(rules.values())
    for kind, rule in (("script", "script-src"), ("style", "style-src")):
        run = [text for tag, attrs, text in page.texts if tag == kind and "type" not in attrs]
        hashes = [
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in run
        ]
        assert rules[rule].split() == hashes


def test_page_names_nothing_outside_its_folder(page):
    for _, attrs in page.found:
        assert not {"src", "href", "srcset", "style", "onclick"} & attrs.keys()
    rules = policy(page)
    assert "http" not in " ".join(rules.values())
    assert "connect-src" not in rules  # default-src 'none' rules it out


def test_hostile_texts_add_no_element(page):
    tags = [tag for tag, _ in page.found]
    assert {"svg", "img", "iframe", "template", "b", "i"}.isdisjoint(tags)
    assert tags.count("script") == 1 + len([t for t in page.texts if t[0] == "script"]) - 1
    (data,) = [text for tag, attrs, text in page.texts if attrs.get("id") == "data"]
    assert not re.search("[<>&]", data)
    assert json.loads(data)["title"].startswith("t </script>")


def test_data_hold_every_case_run_and_miss(page):
    (data,) = [text for tag, attrs, text in page.texts if attrs.get("id") == "data"]
    document = json.loads(data)
    (suite,) = document["suites"]
    assert len(suite["cases"]) == 40
    assert len(document["runs"]) == 3
    lossy = next(run for run in document["runs"] if run["label"] == "plain")
    assert len(lossy["failures"]) == 10
    assert lossy["scores"][0].count("no_image") == 10
    whole = {
        row["run"]: row for row in suite["aggregates"] if row["tag"] == "" and row["column"] == 0
    }
    assert (whole[lossy["run"]]["n"], whole[lossy["run"]]["total"]) == (30, 40)
    assert {row["tag"] for row in suite["aggregates"]} == {
        "",
        "style=<i>anime</i>",
        "style=photo",
    }


def test_same_runs_give_the_same_bytes(folder, make_report, tmp_path):
    again = make_report(tmp_path, "--faces", "show")
    assert (again / "index.html").read_bytes() == (folder / "index.html").read_bytes()


def test_pictures_are_copied_once_and_small(folder):
    pictures = sorted((folder / "images").iterdir())
    # 8 references; 3 x 40 pictures less 10 lost, some of which are alike.
    assert 8 < len(pictures) <= 8 + 110
    with Image.open(pictures[0]) as picture:
        assert max(picture.size) <= 512


def test_faces_can_be_left_out(make_report, tmp_path):
    folder = make_report(tmp_path, "--faces", "omit")
    assert not (folder / "images").exists()
    assert '"pictures":[null' in (folder / "index.html").read_text()


def test_faces_are_blurred_unless_every_source_may_be_passed_on(make_report, tmp_path):
    # The suite names no redistributable source, but none that is not, either.
    folder = make_report(tmp_path)
    assert '"faces":"show"' in (folder / "index.html").read_text()

    class Suite:
        def __init__(self, *names):
            self.sources = [SuiteSource(name=name) for name in names]

    assert default_faces([Suite("scikit-image"), Suite("embedded")]) == "show"
    assert default_faces([Suite("scikit-image"), Suite("celeba")]) == "blur"


def test_blurred_copy_keeps_no_detail(tmp_path):
    # A fine chequerboard is all detail: blurred, nothing but its mean is left.
    board = Image.new("L", (256, 256))
    board.putdata([255 * ((x + y) % 2) for y in range(256) for x in range(256)])
    board.save(tmp_path / "board.png")
    assert copy_pictures([("a" * 64, tmp_path / "board.png")], tmp_path / "out", "blur") == []
    with Image.open(tmp_path / "out" / picture_name("a" * 64, "blur")) as copy:
        low, high = copy.convert("L").getextrema()
    assert high - low < 8
    assert BLURRED_SIDE <= 8


def test_unreadable_picture_is_reported_and_the_rest_is_copied(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    pictures = [("a" * 64, tmp_path / "bad.png"), ("b" * 64, tmp_path / "good.png")]
    assert copy_pictures(pictures, tmp_path / "out", "show") == [tmp_path / "bad.png"]
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_document_must_be_json():
    with pytest.raises(ValueError, match="Out of range float values"):
        render_page({"title": "x", "value": float("nan")})
