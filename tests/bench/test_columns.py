import pytest

from idbench.columns import ColumnName, differing_fields, match_column, match_columns
from idbench.records import Column

NAMES = [
    "facesim@strict[dlib]",
    "landmarkdiff@ibench[mtcnn]",
    "landmarkdiff@strict[mtcnn]",
    "posediv.yaw@strict[dlib68]",
    "posediv.roll@strict[dlib68]",
    "clip_i@ibench[vitl14]",
    "clip_i.vs_ref@ibench[vitb32]",
]


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("facesim", "facesim@strict[dlib]"),
        ("facesim@strict", "facesim@strict[dlib]"),
        ("facesim[dlib]", "facesim@strict[dlib]"),
        ("landmarkdiff@ibench", "landmarkdiff@ibench[mtcnn]"),
        ("posediv.yaw", "posediv.yaw@strict[dlib68]"),
        ("clip_i", "clip_i@ibench[vitl14]"),
        ("clip_i.vs_ref", "clip_i.vs_ref@ibench[vitb32]"),
        ("clip_i[vitb32]", "clip_i.vs_ref@ibench[vitb32]"),
        ("landmarkdiff@strict[mtcnn]", "landmarkdiff@strict[mtcnn]"),
    ],
)
def test_short_names(short, full):
    assert match_column(short, NAMES) == full


def test_ambiguous_name_lists_what_it_can_mean():
    with pytest.raises(LookupError, match=r"landmarkdiff@ibench\[mtcnn\], landmarkdiff@strict"):
        match_column("landmarkdiff", NAMES)
    with pytest.raises(LookupError, match=r"posediv.yaw@strict\[dlib68\], posediv.roll"):
        match_column("posediv", NAMES)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(LookupError, match=r"unknown column 'facesin'; known: clip_i"):
        match_column("facesin", NAMES)


@pytest.mark.parametrize("text", ["", "@strict", "a[b", "a@b@c]"])
def test_text_that_is_no_name_is_refused(text):
    with pytest.raises(LookupError):
        match_column(text, NAMES)


def test_columns_keep_the_order_of_the_request():
    assert match_columns(["posediv.yaw", "facesim"], NAMES) == [NAMES[3], NAMES[0]]
    assert match_columns(["posediv*", "facesim"], NAMES) == [NAMES[3], NAMES[4], NAMES[0]]


def test_parts_of_a_name():
    assert ColumnName.parse("posediv.yaw@strict[dlib68]") == ColumnName(
        "posediv.yaw", "strict", "dlib68"
    )


def column(details):
    return Column(
        name="a@strict[b]",
        fingerprint="f",
        unit="",
        higher_is_better=True,
        low=0.0,
        high=1.0,
        axis="preservation",
        comparable_to_published=True,
        details=details,
    )


def test_difference_names_the_field():
    one = column('{"metric": {"version": 1}, "extractors": {"dlib": {"sha256": "aa"}}}')
    two = column('{"metric": {"version": 2}, "extractors": {"dlib": {"sha256": "aa"}}}')
    assert differing_fields(one, two) == ["metric.version: 1, not 2"]
    assert differing_fields(column('{"a": [1]}'), column('{"a": [1, 2]}')) == ["a.1: absent, not 2"]
