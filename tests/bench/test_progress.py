"""Progress: a bar on a terminal, plain lines elsewhere."""

import io

from idbench import progress
from idbench.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_shows_count_rate_and_time_left() -> None:
    stream = Terminal()
    with Progress("score", 4, "images", stream=stream) as bar:
        bar.advance(4)
    assert "4/4" in stream.getvalue()
    assert "images/s" in stream.getvalue()


def test_plain_lines_without_a_terminal(monkeypatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    stream = io.StringIO()
    with Progress("score", 4, "images", stream=stream) as bar:
        bar.advance(1)
    first, last = stream.getvalue().splitlines()
    assert first.startswith("score: 1/4 images, ")
    assert "s left" in first
    assert last.startswith("score: 1 images in ")
    assert "\r" not in stream.getvalue()


def test_nothing_to_do_prints_nothing() -> None:
    stream = io.StringIO()
    with Progress("score", 0, "images", stream=stream):
        pass
    assert stream.getvalue() == ""
