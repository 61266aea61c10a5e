"""`idbench weights list|fetch|verify|path|import`: the networks of the metrics on this machine."""

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from idbench.escape import plain
from idbench.metrics.fetch import fetch, is_offline
from idbench.metrics.weights import WeightsEntry, WeightStore, weights_root
from idbench.progress import Progress

WIDTH = 80
_BAD = {"wrong": 4, "absent": 3}
_FETCH = {
    "direct": "idbench weights fetch {key}",
    "archive": "idbench weights fetch {key}",
    "manual": "by hand, then idbench weights import {key} PATH",
    "wheel": "pip install {package}",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one subcommand per verb."""
    verbs = parser.add_subparsers(dest="action", metavar="VERB", required=True)

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        child = verbs.add_parser(name, help=summary, description=summary)
        child.add_argument(
            "--folder",
            type=Path,
            metavar="DIR",
            help="weights folder (default $IDBENCH_WEIGHTS_DIR, else the user's data folder)",
        )
        return child

    child = verb("list", "every network: source, licence, what it unlocks, whether it is here")
    child.add_argument("keys", nargs="*", metavar="KEY")
    child.add_argument("--json", action="store_true", help="every field, as JSON")
    child = verb("fetch", "download weights; the only verb of this group that uses the network")
    child.add_argument("keys", nargs="+", metavar="KEY")
    child.add_argument(
        "--accept-terms", action="store_true", help="you agree to the terms that `list` shows"
    )
    child = verb("verify", "hash what is here; exits 0 complete, 3 absent, 4 wrong")
    child.add_argument("keys", nargs="*", metavar="KEY", help="default: all that are here")
    child = verb("path", "print where the files of an entry are")
    child.add_argument("key", metavar="KEY")
    child = verb("import", "register a file of your own, or a folder of several")
    child.add_argument("key", metavar="KEY")
    child.add_argument("path", type=Path, metavar="PATH")
    child.add_argument("--name", help="which file of the entry PATH is, where there are several")


def run(args: argparse.Namespace) -> int:
    """Runs the verb."""
    store = WeightStore(args.folder or weights_root(os.environ))
    verbs = {"list": _list, "fetch": _fetch, "verify": _verify, "path": _path, "import": _import}
    return verbs[args.action](store, args)


def _list(store: WeightStore, args: argparse.Namespace) -> int:
    entries = [store.entry(key) for key in args.keys] or list(store.catalogue.values())
    described = [_described(store, entry) for entry in entries]
    if args.json:
        print(json.dumps(described, indent=2))
        return 0
    print(f"weights folder: {plain(str(store.root))}")
    for facts in described:
        print("\n".join(_lines(facts)))
    return 0


def _described(store: WeightStore, entry: WeightsEntry) -> dict[str, object]:
    return {
        "key": entry.key,
        "network": entry.network,
        "source": entry.source,
        "revision": entry.revision,
        "files": [
            {"path": file.path, "sha256": file.sha256, "size": file.size} for file in entry.files
        ],
        "size": entry.size,
        "licence": entry.licence,
        "terms": entry.terms,
        "unlocks": list(entry.unlocks),
        "note": entry.note,
        "present": store.is_present(entry.key),
        "get": _FETCH[entry.route].format(key=entry.key, package=entry.package),
    }


def _lines(facts: Mapping[str, object]) -> list[str]:
    state = "here" if facts["present"] else f"absent: {facts['get']}"
    files = facts["files"]
    names = [str(file["path"]) for file in files] if isinstance(files, list) else []
    size = facts["size"]
    shown = f"{size / 1e6:,.1f} MB" if isinstance(size, int) else "size not published"
    unlocks = facts["unlocks"]
    lines = [f"{facts['key']}  ({state})"]
    for text in (
        str(facts["network"]),
        f"{facts['source']}, {facts['revision']}",
        f"{', '.join(names)}; {shown}",
        f"licence: {facts['licence']}",
        f"terms: {facts['terms']}" if facts["terms"] else "",
        f"unlocks {', '.join(unlocks)}" if isinstance(unlocks, list) else "",
        str(facts["note"]),
    ):
        lines += textwrap.wrap(
            plain(text),
            WIDTH,
            initial_indent="    ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _fetch(store: WeightStore, args: argparse.Namespace) -> int:
    for key in args.keys:
        store.entry(key)
    for key in args.keys:
        with _Download(key) as report:
            done = fetch(
                store,
                key,
                accept_terms=args.accept_terms,
                offline=is_offline(os.environ),
                report=report,
            )
        for path in done:
            print(path)
        if not done:
            print(f"{key}: all files are here, nothing to do", file=sys.stderr)
    return 0


class _Download:
    """Shows the progress of the files of an entry, one bar per file."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._file: str | None = None
        self._bar: Progress | None = None
        self._shown = 0

    def __enter__(self) -> "_Download":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, file: str, received: int, total: int | None) -> None:
        if file != self._file:
            self._close()
            self._file, self._shown = file, 0
            megabytes = max(-(-(total or received) // 1_000_000), 1)
            self._bar = Progress(f"fetch {self._key} {file}", megabytes, "MB")
            self._bar.__enter__()
        done = received // 1_000_000
        if self._bar is not None and done > self._shown:
            self._bar.advance(done - self._shown)
            self._shown = done

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


def _verify(store: WeightStore, args: argparse.Namespace) -> int:
    keys = args.keys or [key for key in store.catalogue if store.is_present(key)]
    code = 0
    if not keys:
        print(f"no weights in {plain(str(store.root))}", file=sys.stderr)
    for key in keys:
        for check in store.verify(key):
            code = max(code, _BAD.get(check.state, 0))
            print(f"{check.state:<10}  {key}  {plain(str(check.path))}")
            if check.state == "wrong":
                wanted = check.file.sha256 or "the one recorded before"
                print(f"            sha256 {check.sha256}, expected {wanted}")
    return code


def _path(store: WeightStore, args: argparse.Namespace) -> int:
    absent = store.missing(args.key)
    if absent:
        print(absent[0], file=sys.stderr)
        return 3
    for path in store.paths(args.key).values():
        print(path)
    return 0


def _import(store: WeightStore, args: argparse.Namespace) -> int:
    placed = store.import_file(args.key, args.path, args.name)
    print(placed)
    still = store.missing(args.key)
    if still:
        print(still[0], file=sys.stderr)
    return 0
