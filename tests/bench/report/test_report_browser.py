"""The report in headless Chromium, opened from a file."""

import csv
import io
import json

import pytest

from idbench.report_page import render_page


@pytest.fixture(scope="module")
def page(make_report, tmp_path_factory):
    folder = make_report(tmp_path_factory.mktemp("browser"), "--faces", "show")
    return folder / "index.html"


@pytest.fixture
def opened(browser, page):
    """Opens a view; afterwards the page must have stayed quiet, and within its folder."""

    def show(view):
        browser.resize(1280, 900)
        browser.open(page, view)
        return browser

    yield show
    assert browser.problems() == []
    assert browser.js("typeof window.pwned") == "undefined"
    folder = page.parent.as_uri()
    assert all(url.startswith((folder, "about:", "data:", "blob:")) for url in browser.requests())


LABELS = "[...document.querySelectorAll('.tabulator-row .method')].map((node) => node.textContent)"


def test_table_sorts_by_a_column(opened):
    browser = opened("table")
    browser.wait("document.querySelectorAll('.tabulator-row').length === 3")
    first = browser.js(LABELS)
    assert first[0] == "plain"  # the largest mean
    browser.js("document.querySelector('.tabulator-col[tabulator-field=c0]').click()")
    browser.wait(f"{LABELS}[0] !== 'plain'")
    assert browser.js(LABELS) == first[::-1]


def test_table_shows_mean_interval_and_coverage(opened):
    browser = opened("table")
    browser.wait("document.querySelectorAll('.tabulator-row').length === 3")
    cell = (
        "document.querySelector('.tabulator-row .tabulator-cell[tabulator-field=c0]').textContent"
    )
    assert browser.js(f"/^0[.][67]\\d\\d ±0[.]\\d\\d\\d 30[/]40$/.test({cell})")


def test_method_filter_and_tag_filter(opened):
    browser = opened("table")
    browser.wait("document.querySelectorAll('.tabulator-row').length === 3")
    browser.js(
        "(() => { const box = document.querySelector('header input[type=search]');"
        "box.value = 'plain'; box.dispatchEvent(new Event('input')); })()"
    )
    browser.wait("document.querySelectorAll('.tabulator-row').length === 1")
    assert browser.js(LABELS) == ["plain"]
    browser.js(
        "(() => { const tag = document.querySelector('header select[aria-label=tag]');"
        "tag.value = 'style=photo'; tag.dispatchEvent(new Event('change')); })()"
    )
    browser.wait("document.querySelector('.coverage').textContent.endsWith('/20')")


def test_columns_can_be_hidden(opened):
    browser = opened("table")
    browser.wait("document.querySelectorAll('.tabulator-col').length >= 4")
    count = "document.querySelectorAll('.tabulator-col[tabulator-field^=c]').length"
    assert browser.js(count) == 3
    browser.js("document.querySelector('.chooser input').click()")
    browser.wait(f"{count} === 2")


def test_hostile_texts_are_shown_as_text(opened):
    browser = opened("gallery")
    browser.wait("document.querySelectorAll('.case').length > 0")
    prompts = browser.js(
        "[...document.querySelectorAll('.case .prompt')].map((n) => n.textContent)"
    )
    assert any("</script><script>window.pwned=1</script>" in prompt for prompt in prompts)
    assert any("<img src=x onerror=window.pwned=1>" in prompt for prompt in prompts)
    assert browser.js("document.querySelectorAll('main svg, main iframe, main script').length") == 0
    names = browser.js("[...document.querySelectorAll('figcaption b')].map((n) => n.textContent)")
    assert "<img src=x onerror=window.pwned=1>" in names


def test_case_opens_and_keys_go_through_the_cases(opened):
    browser = opened("gallery")
    browser.wait("document.querySelectorAll('.case').length > 0")
    browser.js("document.querySelector('.case').focus()")
    browser.js(
        "document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))"
    )
    browser.wait("!!document.querySelector('dialog[open]')")
    place = "document.querySelector('.detail-bar span').textContent"
    assert browser.js(place) == "1 of 40"
    browser.key("ArrowRight")
    browser.wait(f"{place} === '2 of 40'")
    browser.key("ArrowLeft")
    browser.wait(f"{place} === '1 of 40'")
    assert browser.js("document.querySelectorAll('dialog figure').length") == 4
    browser.key("Escape")
    browser.wait("!document.querySelector('dialog')")


def test_miss_is_shown_with_its_reason(opened):
    browser = opened("gallery")
    browser.wait("document.querySelectorAll('.case').length > 0")
    browser.js("document.querySelector('main input[type=checkbox]').click()")
    browser.wait("document.querySelector('.pager span').textContent === '1 to 10 of 10'")
    browser.js("document.querySelector('.case').click()")
    browser.wait("!!document.querySelector('dialog[open]')")
    text = browser.js("document.querySelector('dialog').textContent")
    assert "no_image" in text
    assert "error: <img src=x onerror=window.pwned=1>" in text


def test_pictures_load_when_they_come_near(opened):
    browser = opened("gallery")
    browser.wait("[...document.querySelectorAll('.case img')].some((img) => img.naturalWidth > 0)")
    assert browser.js(
        "[...document.querySelectorAll('img')].every((img) => img.loading === 'lazy')"
    )
    count = (
        "[...document.querySelectorAll('.case img')].filter((img) => img.naturalWidth > 0).length"
    )
    assert browser.js(count) < browser.js("document.querySelectorAll('.case img').length")


ORDER = (
    "(() => {{ const order = document.querySelector('select[aria-label=order]');"
    "order.value = '{}'; order.dispatchEvent(new Event('change')); }})()"
)
SCORES = (
    "gallery.places.map((sample) => Math.min(...runsShown().map((run) =>"
    " {{ const value = score(run, 0, sample); return typeof value === 'number' ? value : -9; }})))"
)


def test_worst_and_most_changed_come_first(opened):
    browser = opened("gallery")
    browser.wait("document.querySelectorAll('.case').length > 0")
    browser.js(ORDER.format("worst"))
    browser.js(
        "(() => { const m = document.querySelector('select[aria-label=method]');"
        "m.value = ''; m.dispatchEvent(new Event('change')); })()"
    )
    worst = browser.js(SCORES.format())
    assert worst == sorted(worst)
    assert worst[:10] == [-9] * 10
    browser.js(ORDER.format("changed"))
    change = browser.js(
        "gallery.places.map((s) => { const [a, b] = [gallery.a, gallery.b].map((name) =>"
        " score(DATA.runs.find((run) => run.run === name), 0, s)); return Math.abs(b - a); })"
    )
    numbers = [value for value in change if value is not None]
    assert numbers == sorted(numbers, reverse=True)


def test_front_is_drawn_in_two_and_three_axes(opened):
    browser = opened("fronts")
    browser.wait("!!frontChart")
    rows = browser.js(
        "[...document.querySelectorAll('.front-list tbody tr')].map((r) => r.textContent)"
    )
    # The third run has the largest means on both axes, so it alone is on the front.
    assert [("yes" in row) for row in rows].count(True) == 1
    assert next(row for row in rows if "yes" in row).startswith("plain")
    browser.js(
        "(() => { const z = document.querySelector('select[aria-label=z]');"
        "z.value = '2'; z.dispatchEvent(new Event('change')); })()"
    )
    browser.wait("frontChart === null")
    painted = (
        "(() => { const c = document.querySelector('.chart canvas');"
        "const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return data.some((v) => v > 0); })()"
    )
    assert browser.js(painted)


def test_distribution_is_drawn(opened):
    browser = opened("distributions")
    browser.wait("!!distributionChart")
    assert browser.js("distributionChart.data.labels.some((label) => label === 'plain  30/40')")


def test_votes_are_blind_counted_and_saved(opened):
    browser = opened("vote")
    browser.wait("!!document.querySelector('.pair')")
    shown = browser.js("document.querySelector('.stage').textContent")
    assert "plain" not in shown
    for key in ("ArrowLeft", "ArrowRight", "ArrowDown"):
        browser.js(
            "document.querySelector('.stage').dispatchEvent("
            f"new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"
        )
    assert browser.js("document.querySelector('.progress').textContent").startswith("3 of 40")
    text = browser.js("toCsv([HEADER, ...voting.votes.values()])")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["choice"] for row in rows] == ["left", "right", "tie"]
    for row in rows[:2]:
        assert row["chosen"] == row[row["choice"]]
    assert all(row["case_id"].startswith("c") for row in rows)
    back = browser.js("readVotes(toCsv([HEADER, ...voting.votes.values()])).length")
    assert back == 3


def test_sides_are_drawn_by_case_and_rater(opened):
    browser = opened("vote")
    browser.wait("!!document.querySelector('.pair')")
    turned = browser.js(
        "Array.from({length: 400}, (_, i) => randomFrom(seedOf(`rater a b q ${i}`))() < 0.5)"
        ".filter(Boolean).length"
    )
    # 400 fair draws: 200 with a standard deviation of 10.
    assert 150 < turned < 250


def test_statistics_of_votes_by_hand(opened):
    browser = opened("vote")
    # Krippendorff's worked example for nominal data, coders A and B on ten units:
    # A 0100000010, B 1110010000 gives alpha 0.095.
    units = [[a, b] for a, b in zip("0100000010", "1110010000", strict=True)]
    assert browser.js(f"krippendorff({json.dumps(units)})") == pytest.approx(0.095, abs=5e-4)
    assert browser.js("krippendorff([['a'], ['b']])") is None
    # Wilson's interval for 8 of 10: 0.490 to 0.943.
    assert browser.js("wilson(8, 10)") == pytest.approx([0.4902, 0.9433], abs=1e-4)
    # Percentages are of decided votes; a formula in a saved file is text.
    assert browser.js("toCsv([['=1+1', -1, 'a,b']])") == '\'=1+1,-1,"a,b"\r\n'


def test_front_and_share_agree_with_python(opened):
    browser = opened("fronts")
    points = [[1.0, 5.0], [3.0, 4.0], [2.0, 2.0], [5.0, 1.0], [3.0, 3.0]]
    found = browser.js(f"frontOf({json.dumps(points)}, [true, true])")
    assert found == [True, True, False, True, False]
    assert browser.js(f"frontOf({json.dumps(points)}, [true, false])") == [
        False, False, False, True, False,
    ]  # fmt: skip
    # Two runs, five identities; the second is ahead by 0.5 in every identity and on both axes.
    sums = [[[0, 1, 2, 3, 4]] * 2, [[0.5, 1.5, 2.5, 3.5, 4.5]] * 2]
    weights = [[[1] * 5] * 2] * 2
    shares = browser.js(f"membership({json.dumps(sums)}, {json.dumps(weights)}, [true, true], 200)")
    assert shares == [0, 1]


@pytest.mark.parametrize(("width", "mobile"), [(1280, False), (390, True)])
def test_nothing_is_wider_than_the_screen(opened, width, mobile):
    browser = opened("table")
    browser.resize(width, 844, mobile=mobile)
    for view in ("table", "fronts", "distributions", "gallery", "vote"):
        browser.js(f"location.hash = '{view}'")
        browser.wait(f"document.querySelector('nav .current').dataset.view === '{view}'")
        assert browser.js("document.documentElement.scrollWidth") <= width


def test_a_metric_of_whole_runs_is_an_axis(browser, tmp_path):
    def column(name, axis, higher):
        return {
            "name": name, "metric": name, "below": "", "unit": "", "higher": higher, "low": 0,
            "high": None, "fingerprint": "f", "published": False, "axis": axis,
        }  # fmt: skip

    def row(run, place, mean, margin):
        return {
            "tag": "", "run": run, "column": place, "mean": mean, "margin": margin, "n": 4,
            "total": 4, "identities": 4, "reasons": {},
        }  # fmt: skip

    means = {"a": (0.9, 40.0), "b": (0.5, 10.0), "c": (0.4, 12.0)}
    document = {
        "title": "sets",
        "faces": "omit",
        "columns": [column("facesim", "preservation", True), column("fid", "quality", False)],
        "suites": [{
            "name": "s", "version": 1, "notes": [], "samples": [[i, 0] for i in range(4)],
            "cases": [
                {"id": f"c{i}", "alias": "", "prompt": "p", "identity": f"r{i}", "weight": 1,
                 "tags": {}, "asked": [], "references": [None]}
                for i in range(4)
            ],
            "aggregates": [
                row(run, place, pair[place], 0.01 if place == 0 else None)
                for run, pair in means.items() for place in (0, 1)
            ],
        }],
        "runs": [
            {"label": run, "run": run, "method": "m", "suite": "s", "curve": None,
             "pictures": [None] * 4, "failures": {}, "scores": [[pair[0]] * 4, None]}
            for run, pair in means.items()
        ],
    }  # fmt: skip
    path = tmp_path / "index.html"
    path.write_text(render_page(document))
    browser.resize(1280, 900)
    browser.open(path, "fronts")
    assert browser.js("document.querySelector('select[aria-label=y]').value") == "1"
    cells = browser.js(
        "[...document.querySelectorAll('.front-list tbody tr')].map((row) => "
        "[row.firstChild.textContent, row.lastChild.textContent])"
    )
    # c is worse than b in both; the others are on the front, whoever is drawn.
    assert dict(cells) == {
        "a": "yes, in 100 % of resamples",
        "b": "yes, in 100 % of resamples",
        "c": "no, in 0 % of resamples",
    }
    assert browser.problems() == []


@pytest.mark.slow
def test_ten_thousand_samples(browser, tmp_path):
    samples, runs, columns = 10_000, 12, 8
    document = {
        "title": "large", "faces": "omit",
        "columns": [
            {"name": f"m{c}@strict[x]", "metric": f"m{c}", "below": "@strict[x]", "unit": "",
             "higher": True, "low": 0, "high": 1, "fingerprint": "f", "published": True,
             "axis": "preservation" if c < 4 else "editability"}
            for c in range(columns)
        ],
        "suites": [{
            "name": "large", "version": 1, "notes": [],
            "cases": [
                {"id": f"c{i:016x}", "alias": "", "prompt": f"prompt {i} " + "word " * 90,
                 "identity": f"r{i % 100}", "weight": 1, "tags": {}, "asked": [],
                 "references": [None]}
                for i in range(samples)
            ],
            "samples": [[i, 0] for i in range(samples)],
            "aggregates": [
                {"tag": "", "run": f"r{r}", "column": c, "mean": 0.5, "margin": 0.01, "n": samples,
                 "total": samples, "identities": 100, "reasons": {}}
                for r in range(runs) for c in range(columns)
            ],
        }],
        "runs": [
            {"label": f"method {r}", "run": f"r{r}", "method": "m", "suite": "large", "curve": None,
             "pictures": [None] * samples, "failures": {},
             "scores": [[(7 * i + r) % 1000 / 1000 for i in range(samples)]] * columns}
            for r in range(runs)
        ],
    }  # fmt: skip
    path = tmp_path / "index.html"
    path.write_text(render_page(document))
    browser.open(path, "gallery")
    browser.wait("document.querySelectorAll('.case').length === 24")
    took = browser.js(
        "(() => { const start = performance.now();"
        "const order = document.querySelector('select[aria-label=order]');"
        "order.value = 'worst'; order.dispatchEvent(new Event('change'));"
        "return performance.now() - start; })()"
    )
    assert took < 2000
    first_paint = browser.js(
        "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    )
    assert first_paint < 8000
    assert browser.problems() == []


@pytest.mark.parametrize(
    ("line", "box", "length"),
    [
        ("[0, 0], [10, 0]", "[2, -1, 5, 1]", 3),
        ("[0, 0], [10, 0]", "[2, 1, 5, 2]", 0),
        ("[3, 0], [3, 9]", "[0, 4, 6, 20]", 5),
        ("[0, 0], [3, 4]", "[-1, -1, 9, 9]", 5),  # wholly inside
        ("[0, 0], [8, 8]", "[2, 2, 4, 4]", 2 * 2**0.5),
        ("[5, 5], [5, 5]", "[0, 0, 9, 9]", 0),
    ],
)
def test_how_much_of_a_line_a_name_would_cover(opened, line, box, length):
    assert opened("fronts").js(f"within({line}, {box})") == pytest.approx(length)


def test_points_of_a_curve_stand_in_the_order_of_its_parameter(opened):
    points = [("a", 3), ("b", None), ("a", 1), ("a", 2)]
    given = [
        {"run": {"curve": None if value is None else {"name": name, "value": value}}}
        for name, value in points
    ]
    found = opened("fronts").js(
        f"curvesOf({json.dumps(given)}).map((curve) => curve.map((point) => point.run.curve.value))"
    )
    assert found == [[1, 2, 3]]
