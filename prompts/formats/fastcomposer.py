"""The flat folder of FastComposer: `subject_0000_prompt_0000_instance_0000.jpg`."""

import re
from collections.abc import Sequence
from pathlib import Path

from idbench.prompts.acquisition.layouts import IMAGE_SUFFIXES
from idbench.prompts.formats.collected import Collected
from idbench.prompts.formats.copying import copied
from idbench.prompts.formats.paths import PathRules
from idbench.prompts.formats.unit import Reading, Unit
from idbench.prompts.strict import ManifestError
from idbench.prompts.tables import table

_NAME = re.compile(r"subject_(\d{4})_prompt_(\d{4})_instance_(\d{4})")
_ALIAS = re.compile(r"subject_(\d{4})_prompt_(\d{4})")


def read(path: Path, rules: PathRules, *, reference_folder: Path) -> Reading:
    """Reads the folder. References are `<reference_folder>/<six digits>/`, the first JPEG counts.

    Prompts are those of the protocol with the class word, without the trigger token.

    Raises:
        ManifestError: If a folder is missing or no image has such a name.
    """
    for folder in (path, reference_folder):
        if not folder.is_dir():
            raise ManifestError(f"{folder} is not a folder")
    subjects = {int(row["case_index"]): row for row in table("fastcomposer_subjects")}
    prompts = {int(row["prompt_index"]): row for row in table("fastcomposer_single_prompts")}
    references = {
        index: _reference(reference_folder, row["celeba_folder"]) for index, row in subjects.items()
    }
    found = Collected(rules)
    skipped = 0
    for image in sorted(path.iterdir()):
        match = _NAME.fullmatch(image.stem)
        if not match or image.suffix.lower() not in IMAGE_SUFFIXES:
            skipped += 1
            continue
        subject, prompt, instance = map(int, match.groups())
        found.rows += 1
        where = image.name
        if subject not in subjects or prompt not in prompts:
            found.note("unknown", where, f"no subject {subject} or prompt {prompt}")
            continue
        reference = references[subject]
        if reference is None:
            found.note("missing", where, f"reference {subjects[subject]['celeba_folder']}/*.jpg")
            continue
        word = subjects[subject]["class_word"]
        category = prompts[prompt]["category"]
        found.units.append(
            Unit(
                image=image,
                references=(reference,),
                prompt=prompts[prompt]["prompt_template"].format(class_word=word),
                sample=instance,
                category=category,
                class_word=word,
                gender="male" if word == "man" else "female",
                tags={"category": (category,)},
                alias=f"subject_{subject:04d}_prompt_{prompt:04d}",
                file=image.name,
            )
        )
    if not found.rows:
        raise ManifestError(f"{path} has no image like subject_0000_prompt_0000_instance_0000.jpg")
    notes = (f"{skipped} other files were left out",) if skipped else ()
    return found.reading(notes=notes)


def _reference(folder: Path, name: str) -> Path | None:
    pictures = sorted((folder / name).glob("*.jpg"))
    if pictures:
        return pictures[0]
    flat = folder / f"{name}.jpg"
    return flat if flat.is_file() else None


def write(units: Sequence[Unit], target: Path) -> Path:
    """Writes images under the names of the protocol, references below `references/`.

    Raises:
        ManifestError: If a unit has no image or an alias of another suite.
    """
    subjects = {int(row["case_index"]): row for row in table("fastcomposer_subjects")}
    for unit in units:
        match = _ALIAS.fullmatch(unit.alias)
        if unit.image is None or not match or int(match[1]) not in subjects:
            raise ManifestError(f"{unit.alias!r} is not a case of the FastComposer protocol")
        copied(unit.image, target, "images", f"{unit.alias}_instance_{unit.sample or 0:04d}")
        folder = f"references/{subjects[int(match[1])]['celeba_folder']}"
        copied(unit.references[0], target, folder, "0")
    return target
