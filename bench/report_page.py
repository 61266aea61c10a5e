"""The page of a report: one HTML file that needs nothing but the pictures beside it."""

import base64
import hashlib
import html
import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

SCRIPTS = (
    "vendor/tabulator.min.js",
    "vendor/chart.umd.min.js",
    "dom.js",
    "statistics.js",
    "data.js",
    "tables.js",
    "fronts.js",
    "distributions.js",
    "gallery.js",
    "vote.js",
    "app.js",
)
STYLES = ("vendor/tabulator_simple.min.css", "report.css")


def render_page(document: dict[str, Any]) -> str:
    """The page for a document of `report_data.collect`.

    The content security policy admits the scripts and styles by their hashes and pictures beside
    the page, and nothing else; the document is data that no browser executes.
    """
    folder = files("idbench") / "report"
    styles = [_read(folder, name) for name in STYLES]
    scripts = [_read(folder, name) for name in SCRIPTS]
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {' '.join(map(_hash, styles))}",
            "img-src 'self' file: data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    title = html.escape(document["title"])
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{title}</title>",
        *(f"<style>{style}</style>" for style in styles),
        "</head>",
        "<body>",
        "<noscript>This report needs JavaScript; it loads nothing from the network.</noscript>",
        '<div id="app"></div>',
        f'<script type="application/json" id="data">{_data(document)}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _read(folder: Traversable, name: str) -> str:
    text = folder.joinpath(name).read_text("utf-8")
    if name.endswith(".js") and ("</script" in text.lower() or "<!--" in text):
        raise ValueError(f"report/{name} holds markup that would end its element")
    return text


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _data(document: dict[str, Any]) -> str:
    """JSON in which no markup can begin or end."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
