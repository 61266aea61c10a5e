"""Text from outside as it may stand in a terminal, in Markdown, LaTeX, CSV and XML."""

import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    # After the end of a row these would be an argument of \\.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
}
_MARKDOWN = {character: f"\\{character}" for character in "\\`*_{}[]#!|~$"} | {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def plain(text: str) -> str:
    """One line in which control characters, and those that reorder text, are shown as escapes."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        code = ord(character)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return character


def markdown(text: str) -> str:
    """Text as one cell or one line of GitHub Markdown that renders as itself."""
    return "".join(_MARKDOWN.get(character, character) for character in plain(text))


def latex(text: str) -> str:
    """Text as LaTeX that prints itself."""
    return "".join(_LATEX.get(character, character) for character in plain(text))


def spreadsheet(text: str) -> str:
    """Text that no spreadsheet reads as a formula (CWE-1236); `'` marks it as text."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def display_width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(
        0
        if unicodedata.combining(character)
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Text filled with blanks to a display width; `right` puts the blanks before it."""
    blanks = " " * max(0, width - display_width(text))
    return blanks + text if right else text + blanks
