"""`idbench calibrate`: do the metrics move as they claim when a photograph is changed?"""

import argparse
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from idbench.calibrate import Photograph, calibrate
from idbench.metrics.calibration import Judgement, Value
from idbench.metrics.images import read_rgb
from idbench.metrics.protocol import Missing
from idbench.prompts.materialise import materialise
from idbench.prompts.sources import data_root, resolve
from idbench.prompts.suites import load_suite

WIDTH = 80
# The suites that the pictures are taken from, and the two people among them.
PEOPLE, THINGS = "demo", "tiny-subject"
ASTRONAUT, SOMEBODY_ELSE = "astronaut.png", "people/t1-a.ppm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench calibrate`."""
    parser.add_argument(
        "columns",
        nargs="*",
        metavar="COLUMN",
        help="columns to check, or beginnings of their names (default all)",
    )
    parser.add_argument(
        "--image",
        type=Path,
        metavar="PATH",
        help="one person with a clear face (default: the astronaut of scikit-image)",
    )
    parser.add_argument("--other", type=Path, metavar="PATH", help="another person")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--json", action="store_true", help="every check, as JSON")


def run(args: argparse.Namespace) -> int:
    """Judges every check; exit code 1 if one fails."""
    things = _pictures(THINGS)
    if args.image is None:
        photograph = things[ASTRONAUT]
    else:
        photograph = Photograph(pixels=read_rgb(args.image), prompt="a photograph of a person")
    if args.other is None:
        other = _pictures(PEOPLE)[SOMEBODY_ELSE]
    else:
        other = Photograph(pixels=read_rgb(args.other), prompt="a photograph of a person")
    judgements = calibrate(
        photograph,
        other,
        [picture for name, picture in things.items() if name != ASTRONAUT],
        columns=args.columns,
        device=args.device,
        dtype=args.dtype,
    )
    if args.json:
        print(json.dumps([_described(judgement) for judgement in judgements], indent=2))
    else:
        print("\n".join(_lines(judgements)))
    return int(any(judgement.verdict == "fail" for judgement in judgements))


def _pictures(name: str) -> dict[str, Photograph]:
    """The references of a suite, by path, with what they show in words."""
    root = data_root()
    suite = load_suite(name, data_root=root)
    materialise(suite, root)
    references = {ref.path: ref for case in suite.cases for ref in case.references}
    return {
        path: Photograph(
            pixels=read_rgb(resolve(reference, reference.source, root)),
            prompt=f"a photograph of a {reference.class_word}",
        )
        for path, reference in references.items()
    }


def _described(judgement: Judgement) -> dict[str, object]:
    return {
        "check": judgement.check.number,
        "column": judgement.check.column,
        "scenarios": list(judgement.check.scenarios),
        "expected": str(judgement.check.expectation),
        "verdict": judgement.verdict,
        "values": [_plain(value) for value in judgement.values],
    }


def _plain(value: Value) -> object:
    return {"missing": value.reason} if isinstance(value, Missing) else value


def _lines(judgements: Sequence[Judgement]) -> list[str]:
    lines = []
    for judgement in judgements:
        if judgement.verdict == "skip":
            continue
        check = judgement.check
        lines.append(f"{judgement.verdict:<4}  {check.number:>2}  {check.column}")
        values = [
            value.reason if isinstance(value, Missing) else f"{value:.4g}"
            for value in judgement.values
        ]
        pairs = ", ".join(
            f"{scenario}: {value}" for scenario, value in zip(check.scenarios, values, strict=True)
        )
        lines += textwrap.wrap(
            f"{check.expectation}; {pairs}",
            WIDTH,
            initial_indent="          ",
            subsequent_indent="          ",
        )
    counts = Counter(judgement.verdict for judgement in judgements)
    lines.append(
        f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped because "
        "networks are not here"
    )
    return lines
