"""`idbench data VERB`: the data sets that suites are built from, on this machine."""

import argparse
import os
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from idbench.escape import plain
from idbench.masks import import_masks
from idbench.progress import Progress
from idbench.prompts.acquisition.acquire import (
    FetchOptions,
    fetch,
    import_copy,
    plan_fetch,
    verify_source,
)
from idbench.prompts.acquisition.catalogue import SOURCES, SourceInfo, source_info, terms_text
from idbench.prompts.acquisition.locks import EXIT_CODES, Verification
from idbench.prompts.acquisition.state import read_state, remove, state_root
from idbench.prompts.builders.collecting import BuildOptions
from idbench.prompts.building import build_suite, suite_info
from idbench.prompts.registry import SUITES
from idbench.prompts.sources import data_root, source_root

WIDTH = 80
_MODULES = {"scikit-image": "skimage", "insightface": "insightface"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one subcommand per verb."""
    verbs = parser.add_subparsers(dest="action", metavar="VERB", required=True)

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=summary, description=summary)

    verb("list", "every source: licence, size, state here, suites that it unlocks")
    verb("info", "origin, terms, manual steps and lock of a source").add_argument("source")
    child = verb("fetch", "download a source, or the sources of a suite")
    child.add_argument("name", metavar="SOURCE|SUITE")
    child.add_argument("--accept", action="append", default=[], metavar="TERMS")
    child.add_argument("--revision", metavar="REV", help="another state than the pinned one")
    child.add_argument("--mirror", metavar="URL", help="another repository or hub endpoint")
    child.add_argument("--dry-run", action="store_true", help="say what would be done")
    child = verb("verify", "compare a source with its lock; exits 0 complete, 3, 4, 5")
    child.add_argument("source")
    child.add_argument("--deep", action="store_true", help="hash the contents")
    child = verb("import", "register your own copy of a source")
    child.add_argument("source")
    child.add_argument("path", type=Path)
    child.add_argument("--accept", action="append", default=[], metavar="TERMS")
    how = child.add_mutually_exclusive_group()
    how.add_argument("--link", action="store_true", help="leave it where it is (default)")
    how.add_argument("--copy", action="store_true", help="copy it below the data folder")
    child = verb("build", "freeze a suite from its sources")
    child.add_argument("suite")
    child.add_argument("--allow-partial", action="store_true", help="build NAME+partial if need be")
    child.add_argument("--variant", action="append", default=[], metavar="NAME=VALUE")
    child.add_argument("--editor", metavar="COMMAND", help="of editedid-proxy; see its page")
    child.add_argument("--total", type=int, metavar="N", help="of editedid-proxy: photographs")
    for source in ("crowdhuman", "deepfashion", "extra"):
        child.add_argument(
            f"--{source}", type=Path, metavar="DIR", help=f"of editedid-proxy: your {source} folder"
        )
    child.add_argument("--accept", action="append", default=[], metavar="TERMS")
    child = verb("masks", "register masks of what your images show, white on the subject")
    child.add_argument("images", type=Path, metavar="IMAGES", help="folder of images")
    child.add_argument("masks", type=Path, metavar="MASKS", help="folder of masks, names as there")
    verb("path", "print the folder of a source").add_argument("source")
    verb("rm", "delete what was fetched of a source; your own copy stays").add_argument("source")


def run(args: argparse.Namespace) -> int:
    """Runs the verb."""
    verbs = {
        "list": _list,
        "info": _info,
        "fetch": _fetch,
        "verify": _verify,
        "import": _import,
        "build": _build,
        "masks": _masks,
        "path": _path,
        "rm": _remove,
    }
    return verbs[args.action](args, data_root())


def _list(args: argparse.Namespace, root: Path) -> int:
    del args
    for info in SOURCES.values():
        unlocked = [name for name, suite in SUITES.items() if info.name in suite.sources]
        size = f"{info.size / 1e6:,.0f} MB" if info.size else ""
        facts = ", ".join(filter(None, (size, info.licence)))
        print(f"{info.name}: {_state(info, root)}")
        for text in (facts, f"for {', '.join(unlocked)}" if unlocked else ""):
            if text:
                print(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  "))
    return 0


def _state(info: SourceInfo, root: Path) -> str:
    if info.method == "bundled":
        return "always available"
    if info.method == "package":
        present = find_spec(_MODULES[info.name]) is not None
        return "installed" if present else f"absent; {info.manual}"
    state = read_state(info.name, root)
    if state_root(info.name, root) is None:
        return "absent"
    return state.verified or "staged, not verified"


def _info(args: argparse.Namespace, root: Path) -> int:
    info = source_info(args.source)
    state = read_state(info.name, root)
    accepted = [f"{entry.terms} on {entry.date}" for entry in state.accepted]
    rows = (
        ("source", info.name),
        ("what", info.summary),
        ("origin", info.url),
        ("revision", info.revision),
        ("licence", info.licence),
        ("terms", info.terms),
        ("accepted", ", ".join(accepted)),
        ("lock", info.lock),
        ("manual route", info.manual),
        ("cite", info.cite),
        ("state", _state(info, root)),
    )
    for name, value in rows:
        if value:
            head = f"{name:<13} "
            print(textwrap.fill(head + plain(value), WIDTH, subsequent_indent=" " * len(head)))
    if info.terms:
        print("\n" + terms_text(info.terms), end="")
    return 0


def _fetch(args: argparse.Namespace, root: Path) -> int:
    names = [args.name]
    if args.name in SUITES and args.name not in SOURCES:
        names = [name for name in suite_info(args.name).sources if _can_fetch(name)]
    options = FetchOptions(
        environment=os.environ,
        accept=frozenset(args.accept),
        revision=args.revision,
        mirror=args.mirror,
    )
    worst = 0
    for name in names:
        if args.dry_run:
            print(plan_fetch(name, root, options))
        else:
            worst = max(worst, _report(name, fetch(name, root, options)))
    return worst


def _can_fetch(source: str) -> bool:
    return source_info(source).method not in ("package", "bundled")


def _report(name: str, found: Verification) -> int:
    print(f"{name}: {plain(found.summary())}")
    return EXIT_CODES[found.state]


def _verify(args: argparse.Namespace, root: Path) -> int:
    return _report(args.source, verify_source(args.source, root, deep=args.deep))


def _import(args: argparse.Namespace, root: Path) -> int:
    accept = FetchOptions(environment=os.environ, accept=frozenset(args.accept)).accepted()
    found = import_copy(args.source, args.path, root, copy=args.copy, accept=accept)
    return _report(args.source, found)


def _build(args: argparse.Namespace, root: Path) -> int:
    variants = dict(_variants(args.variant))
    extra = {key: getattr(args, key) for key in ("editor", "total") if getattr(args, key)}
    folders = {
        "crowdhuman": args.crowdhuman,
        "deepfashion_mm": args.deepfashion,
        "extra_photos": args.extra,
    }
    if args.suite != "editedid-proxy" and (extra or any(folders.values())):
        raise ValueError("--editor, --total and the folders of photographs are for editedid-proxy")
    accept = FetchOptions(environment=os.environ, accept=frozenset(args.accept)).accepted()
    for source, folder in folders.items():
        if folder:
            import_copy(source, folder, root, copy=False, accept=accept)
    suite_info(args.suite)
    with Progress("build", 0, "files") as progress:
        options = BuildOptions(
            variants=variants,
            allow_partial=args.allow_partial,
            progress=lambda done, total, path: progress.advance(),
        )
        suite, folder = build_suite(args.suite, root, options, **extra)
    print(
        f"{suite.name} version {suite.version}: {suite.count:,} cases ({suite.distinct:,} distinct)"
        f" x {suite.samples_per_case} samples, sha256 {suite.sha256[:12]}, in {folder}"
    )
    return 0


def _variants(words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise ValueError(f"--variant must be NAME=VALUE, got {word!r}")
        yield name, value


def _masks(args: argparse.Namespace, root: Path) -> int:
    done = import_masks(args.images, args.masks, root)
    print(
        f"{done.added} masks registered, {done.known} were there, {len(done.without)} images "
        "have none"
    )
    return 0


def _path(args: argparse.Namespace, root: Path) -> int:
    print(source_root(args.source, root))
    return 0


def _remove(args: argparse.Namespace, root: Path) -> int:
    source_info(args.source)
    print(f"{remove(args.source, root)} files deleted", file=sys.stderr)
    return 0
