"""editedid-proxy: the user's own photographs, edited by the user's own editor, to be restored.

EditedID (arXiv 2602.18752) evaluates 1,200 edited photographs: 30 % from CrowdHuman, 35 % from
DeepFashion-MultiModal, 35 % from social media. None is published, so this suite never carries the
name of the paper's: originals are drawn in the same shares from copies that the user has.
"""

import hashlib
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from idbench.prompts.acquisition.layouts import IMAGE_SUFFIXES
from idbench.prompts.acquisition.state import state_root
from idbench.prompts.builders.collecting import BuildOptions, PartialSourceError
from idbench.prompts.cases import Case, Edit, Element, File
from idbench.prompts.files import sha256_of
from idbench.prompts.freezing import suite_of
from idbench.prompts.references import identified, reference_of
from idbench.prompts.sources import folder_source
from idbench.prompts.strict import ManifestError, parse_json, shown
from idbench.prompts.suite_info import SuiteInfo
from idbench.prompts.suites import Suite, SuiteSource
from idbench.prompts.tables import table

TOTAL = 1200
SHARES: dict[str, int] = {"crowdhuman": 30, "deepfashion_mm": 35, "extra_photos": 35}
MOST_HEADS = 4
LEAST_HEAD_HEIGHT = 96  # pixels
_TIMEOUT = 600  # seconds for one edit


class EditorError(RuntimeError):
    """The user's editor failed or gave no image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """A photograph that is to be edited."""

    source: str
    path: Path


def allotment(present: Sequence[str], total: int = TOTAL) -> dict[str, int]:
    """How many originals each source gives; the shares of absent ones go to the others.

    Largest remainders, so that the counts always add up to `total`.
    """
    weight = sum(SHARES[name] for name in present)
    exact = {name: total * SHARES[name] / weight for name in SHARES if name in present}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(counts, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def crowdhuman_usable(line: str | bytes, where: str) -> str | None:
    """The image id of a line of an odgt file where one to four heads are large enough, else None.

    Raises:
        ManifestError: If the line is malformed.
    """
    record = parse_json(line, where)
    if not isinstance(record, dict) or not isinstance(record.get("ID"), str):
        raise ManifestError(f"{where}, key 'ID': missing")
    heights = []
    boxes = record.get("gtboxes", [])
    for entry in boxes if isinstance(boxes, list) else []:
        if not isinstance(entry, dict) or "hbox" not in entry:
            continue
        attributes, box = entry.get("head_attr"), entry["hbox"]
        if not isinstance(attributes, dict) or attributes.get("ignore", 1) != 0:
            continue
        if not (isinstance(box, list) and len(box) == 4 and type(box[3]) in (int, float)):
            raise ManifestError(f"{where}, key 'hbox': expected [x, y, w, h], got {shown(box)}")
        heights.append(box[3])
    large = 1 <= len(heights) <= MOST_HEADS and min(heights) >= LEAST_HEAD_HEIGHT
    name: str = record["ID"]
    return name if large and "/" not in name and "\\" not in name else None


def candidates(source: str, root: Path) -> Iterator[Path]:
    """The photographs of a source that may be drawn."""
    if source != "crowdhuman":
        yield from (p for p in sorted(root.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES)
        return
    for path in sorted(root.glob("annotation_*.odgt")):
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                name = crowdhuman_usable(line, f"{path}, line {number}") if line.strip() else None
                image = root / "Images" / f"{name}.jpg"
                if name and image.is_file():
                    yield image


def draw(data_root: Path, total: int = TOTAL) -> list[Original]:
    """The originals: in each source the first by sha256 of their content.

    Raises:
        PartialSourceError: If no source is here, or one has too few photographs.
    """
    roots = {name: root for name in SHARES if (root := state_root(name, data_root))}
    if not roots:
        raise PartialSourceError(
            f"none of {', '.join(SHARES)} is here; register a copy with: idbench data import "
            "crowdhuman FOLDER (or deepfashion_mm, extra_photos)"
        )
    drawn = []
    for source, count in allotment(list(roots), total).items():
        unique = {sha256_of(path): path for path in candidates(source, roots[source])}
        if len(unique) < count:
            raise PartialSourceError(
                f"{source} has {len(unique)} usable photographs, {count} are needed; "
                "add some, or ask for fewer with --total"
            )
        chosen = [unique[digest] for digest in sorted(unique)[:count]]
        drawn += [Original(source=source, path=path) for path in chosen]
    return drawn


def run_editor(command: str, original: Path, edited: Path, instruction: str) -> None:
    """Runs the user's program on one photograph; `{input}`, `{output}`, `{instruction}` are filled.

    Raises:
        EditorError: If it fails or leaves no readable image.
    """
    values = {"input": str(original), "output": str(edited), "instruction": instruction}
    words = [word.format(**values) for word in shlex.split(command)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EditorError(f"the editor cannot run on {original}: {error}") from error
    if done.returncode:
        raise EditorError(f"the editor failed on {original}: {done.stderr.strip()[-500:]}")
    try:
        with Image.open(edited) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError) as error:
        raise EditorError(f"the editor left no image for {original}: {error}") from error


def build(
    info: SuiteInfo,
    data_root: Path,
    options: BuildOptions,
    *,
    editor: str = "",
    total: int = TOTAL,
) -> Suite:
    """Draws originals, has them edited and freezes the pairs; edits that exist are kept.

    Raises:
        ValueError: If no editor is given.
        PartialSourceError: If there are too few photographs.
        EditorError: If the editor fails.
    """
    if "{input}" not in editor or "{output}" not in editor:
        raise ValueError(
            "editedid-proxy needs an editor: --editor 'PROGRAM {input} {output} {instruction}'"
        )
    instructions = table("edit_instructions")
    folder = data_root / "sources" / "editedid-proxy" / _key(editor)
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    originals = draw(data_root, total)
    for number, original in enumerate(originals):
        row = instructions[number % len(instructions)]
        digest = sha256_of(original.path)
        edited = folder / f"{digest[:16]}-{row['name']}.png"
        if not edited.is_file():
            part = edited.with_name("." + edited.name)
            run_editor(editor, original.path, part, row["instruction"])
            part.replace(edited)
        cases.append(_case(info.name, original, edited, row))
        if options.progress:
            options.progress(number + 1, len(originals), original.path.name)
    return suite_of(
        cases,
        name=info.name,
        kind="edit_restoration",
        sources=tuple(SuiteSource(name=name) for name in SHARES if state_root(name, data_root)),
        expected={"cases": total},
        metrics=("id_sim", "clip_s", "imagereward"),
        variants={"editor": editor},
        notes=("A stand-in: the 1,200 samples of the paper are not published.",),
    )


def _key(editor: str) -> str:
    return hashlib.sha256(editor.encode()).hexdigest()[:12]


def _case(suite: str, original: Original, edited: Path, row: Mapping[str, str]) -> Case:
    source = folder_source(original.path.parent)
    digest = sha256_of(original.path)
    reference = reference_of(
        path=original.path.name, sha256=digest, source=source, class_word="person"
    )
    edit = Edit(
        source=folder_source(edited.parent),
        original=File(path=original.path.name, sha256=digest, source=source),
        edited=File(path=edited.name, sha256=sha256_of(edited)),
        instruction=row["instruction"],
        elements=tuple(Element(text=text) for text in row["elements"].split(";")),
        editor="user",
    )
    return identified(
        suite,
        1,
        alias=f"{original.source}-{original.path.stem}-{row['name']}",
        kind="edit_restoration",
        references=(reference,),
        prompt=row["instruction"],
        edit=edit,
        tags={"instruction": (row["name"],), "origin": (original.source,)},
    )
