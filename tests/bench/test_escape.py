import csv
import io
import re

import pytest

from idbench import escape

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "a\nb",
    "a\rb",
    "left \u202e thgir",
    "zero\u200bwidth",
    "nul\0",
    "=cmd|' /C calc'!A0",
    "+1",
    "-1+2",
    "@SUM(A1)",
    "\t=1",
    " =1",
    "\uff1d1",
    "a|b",
    "`code`",
    "<script>alert(1)</script>",
    "[link](javascript:alert(1))",
    "![x](http://example.com/x.png)",
    r"\write18{rm -rf}",
    r"\input{/etc/passwd}",
    "50% & $x_1^2$ ~ # {} [1]",
    "&amp;",
    "**bold** _it_ ~~no~~",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_terminal_text_has_no_control_characters(text):
    shown = escape.plain(text)
    assert shown.isprintable()
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2066-\u2069]", shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_text_has_no_commands_of_its_own(text):
    shown = escape.latex(text)
    allowed = (
        r"\\text(backslash|asciicircum|asciitilde|less|greater|bar|quotedbl|asciigrave)\{\}"
        r"|\\[{}$&#%_]|\{\[\}|\{\]\}|\{\*\}"
    )
    rest = re.sub(allowed, "", shown)
    assert not re.search(r"[\\{}$&#%_^~<>|\"`\[\]*]", rest)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_text_has_no_markup_of_its_own(text):
    shown = escape.markdown(text)
    rest = re.sub(r"\\[\\`*_{}\[\]#!|~$]|&(amp|lt|gt);", "", shown)
    assert not re.search(r"[\\`*_{}\[\]#!|~$<>&\n]", rest)


@pytest.mark.parametrize("text", HOSTILE)
def test_spreadsheet_text_is_no_formula(text):
    cell = escape.spreadsheet(escape.plain(text))
    assert cell.lstrip(" ")[0] not in "=+-@\t\r\uff1d\uff0b\uff0d\uff20"
    buffer = io.StringIO()
    csv.writer(buffer).writerow([cell, "next"])
    assert next(csv.reader(io.StringIO(buffer.getvalue()))) == [cell, "next"]


def test_plain_names_stay_as_they_are():
    for shown in (escape.plain, escape.spreadsheet):
        assert shown("λ-Eclipse (k=1.5) é 李") == "λ-Eclipse (k=1.5) é 李"


def test_width_counts_wide_and_combining_characters():
    assert escape.display_width("李a") == 3
    assert escape.display_width("e\u0301") == 1
    assert escape.pad("李", 4) == "李  "
    assert escape.pad("1", 3, right=True) == "  1"
