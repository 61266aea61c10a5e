"""fastcomposer-single: 15 CelebA entries x 40 prompts x 4 (mit-han-lab/fastcomposer@b9304a2)."""

from pathlib import Path

from idbench.prompts.acquisition.catalogue import SOURCES
from idbench.prompts.builders.celeba import CelebA, crop_of, image_folder, read_celeba
from idbench.prompts.builders.collecting import (
    BuildOptions,
    Collector,
    PartialSourceError,
    finished_name,
)
from idbench.prompts.cases import Reference
from idbench.prompts.freezing import suite_of
from idbench.prompts.references import identified, reference_of
from idbench.prompts.suite_info import SuiteInfo
from idbench.prompts.suites import Suite, SuiteSource
from idbench.prompts.tables import table


def build(info: SuiteInfo, data_root: Path, options: BuildOptions) -> Suite:
    """Builds the suite.

    The six digits of the official folders are read as CelebA identity numbers, and the reference is
    the first file of the identity; the attribute `Male` has to agree with the class word.

    Raises:
        PartialSourceError: If identities or images are missing and that was not allowed.
        ValueError: If attribute and class word disagree, with the list.
    """
    files = Collector("celeba", data_root)
    celeba = read_celeba(files.root)
    folder = image_folder(files.root, options.variant(info, "crop"))
    if folder is None:
        raise PartialSourceError(f"no folder of CelebA images below {files.root}")
    subjects = table("fastcomposer_subjects")
    _check_class_words(celeba, subjects)
    references: dict[str, Reference] = {}
    for row in subjects:
        names = celeba.files.get(int(row["celeba_folder"]))
        if not names:
            files.missing.append(f"identity {row['celeba_folder']}")
            continue
        path = f"{folder}/{names[0]}"
        sha256 = files.sha256(path)
        if sha256:
            references[row["case_index"]] = reference_of(
                path=path,
                sha256=sha256,
                source="celeba",
                class_word=row["class_word"],
                gender="male" if row["class_word"] == "man" else "female",
            )
    name = finished_name(info, options, files.missing, expected=len(subjects))
    prompts = table("fastcomposer_single_prompts")
    return suite_of(
        (
            identified(
                name,
                1,
                alias=f"subject_{int(index):04d}_prompt_{int(prompt['prompt_index']):04d}",
                kind="single_id",
                references=(reference,),
                prompt=prompt["prompt_template"].format(class_word=reference.class_word),
                category=prompt["category"],
                tags={"category": (prompt["category"],)},
            )
            for index, reference in references.items()
            for prompt in prompts
        ),
        name=name,
        kind="single_id",
        samples_per_case=info.samples,
        sources=(SuiteSource(name="celeba", revision=SOURCES["celeba"].revision),),
        expected={"references": info.references, "prompts": info.prompts},
        metrics=("facesim", "clip_t"),
        variants={**options.recorded(info), "crop": crop_of(folder)},
    )


def _check_class_words(celeba: CelebA, subjects: list[dict[str, str]]) -> None:
    wrong = []
    for row in subjects:
        names = celeba.files.get(int(row["celeba_folder"]))
        if names and celeba.male(names[0]) != (row["class_word"] == "man"):
            wrong.append(f"{row['celeba_folder']} ({row['class_word']}, {names[0]})")
    if wrong:
        raise ValueError(
            "the attribute Male of CelebA contradicts the class word of these entries, so the "
            f"reading of folder names as identity numbers does not hold: {', '.join(wrong)}"
        )
