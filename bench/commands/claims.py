"""`idbench claims [PAPER]`: quantitative sentences re-derived from printed and measured numbers."""

import argparse
import json
import sys
import textwrap
from pathlib import Path

from idbench import escape
from idbench.claims import CheckedClaim, Claim, check_claim, load_claims
from idbench.commands.reproduce import add_rows, measure
from idbench.paper_tables import load_tables

WORDS = {
    "supported": "supported",
    "partially_supported": "partly supported",
    "contradicted": "contradicted",
    "not_verifiable": "cannot be verified",
    "not_measured": "not measured",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("paper", nargs="?", metavar="PAPER", help="such as flexip (default: all)")
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="runs to check the claims with, too"
    )
    add_rows(parser)
    parser.add_argument("--json", action="store_true", help="every field, as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints every claim with its verdict."""
    papers = list(dict.fromkeys(claim.paper for claim in load_claims()))
    if args.paper is not None and args.paper not in papers:
        raise LookupError(f"unknown paper {args.paper!r}; known: {', '.join(papers)}")
    claims = [claim for claim in load_claims() if args.paper in (None, claim.paper)]
    measured = {}
    if args.runs:
        rows = [entry.rpartition("=")[0] for entry in args.row]
        for table in load_tables().values():
            if table.measurable and args.paper in (None, table.paper):
                given = [
                    entry for entry, row in zip(args.row, rows, strict=True) if row in table.cells
                ]
                measured[table.id] = measure(table, args.runs, given).measured_numbers()
    found = [(check_claim(claim), _with_measured(claim, measured)) for claim in claims]
    if args.json:
        print(json.dumps([_record(*pair) for pair in found], indent=1, ensure_ascii=False))
        return 0
    for printed, other in found:
        _print(printed, other)
    counts = {word: sum(p.verdict == verdict for p, _ in found) for verdict, word in WORDS.items()}
    print(", ".join(f"{count} {word}" for word, count in counts.items() if count))
    return 0


def _with_measured(
    claim: Claim, measured: dict[str, dict[str, dict[str, float]]]
) -> CheckedClaim | None:
    """The claim on measured numbers, None where it is not about a measurable table."""
    if not measured or f"{claim.paper}:{claim.table}" not in measured:
        return None
    tolerance = load_tables()[f"{claim.paper}:{claim.table}"].tolerance
    return check_claim(claim, measured, tolerance=tolerance)


def _print(printed: CheckedClaim, other: CheckedClaim | None) -> None:
    claim = printed.claim
    lines = textwrap.wrap(f"{claim.id}  {claim.claim}", 80, subsequent_indent="    ")
    lines.append(f"    printed numbers: {WORDS[printed.verdict]}{_which(printed)}")
    if other is not None:
        lines.append(f"    measured numbers: {WORDS[other.verdict]}{_which(other)}")
    if claim.note:
        lines += textwrap.wrap(
            claim.note, 80, initial_indent="    note: ", subsequent_indent="      "
        )
    sys.stdout.write("\n".join(map(escape.plain, lines)) + "\n")


def _which(found: CheckedClaim) -> str:
    if found.verdict != "partially_supported":
        return ""
    return f" ({sum(each is True for each in found.found)} of {len(found.found)} checks hold)"


def _record(printed: CheckedClaim, other: CheckedClaim | None) -> dict[str, object]:
    return {
        "id": printed.claim.id,
        "paper": printed.claim.paper,
        "claim": printed.claim.claim,
        "claimed": printed.claim.claimed,
        "table": printed.claim.table,
        "checks": [
            {"check": check, "printed": value}
            for check, value in zip(printed.claim.checks, printed.found, strict=True)
        ],
        "printed": printed.verdict,
        "measured": other.verdict if other else None,
        "note": printed.claim.note,
    }
