"""dreambench-plus: 150 subjects x 9 prompts (yuangpeng/dreambench_plus@66ca27e)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from idbench.prompts.acquisition.catalogue import SOURCES
from idbench.prompts.acquisition.layouts import DREAMBENCH_SUBJECTS, dreambench_pairs
from idbench.prompts.builders.collecting import BuildOptions, Collector, finished_name
from idbench.prompts.cases import Case, Reference
from idbench.prompts.freezing import suite_of
from idbench.prompts.references import identified, reference_of
from idbench.prompts.strict import ManifestError, read_utf8
from idbench.prompts.suite_info import SuiteInfo
from idbench.prompts.suites import Suite, SuiteSource

CATEGORIES = ("animal", "human", "object", "style")
PROMPTS = 9


def difficulty(prompt_index: int) -> str | None:
    """0-3 photorealistic, 4-6 style transfer, 7-8 imaginative; None for other numbers."""
    if 0 <= prompt_index <= 3:
        return "photorealistic"
    if 4 <= prompt_index <= 6:
        return "style_transfer"
    return "imaginative" if prompt_index in (7, 8) else None


def collection_id(category: str, stem: str, subject: str) -> str:
    """The folder name of a subject, such as `live_subject_animal_00_kitten`."""
    live = "live_subject_" if category in ("animal", "human") else ""
    return f"{live}{category}_{stem}_{subject.lower().replace(' ', '_')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DreamBenchSubject:
    """One image with its caption file."""

    reference: Reference
    category: str
    stem: str
    subject: str
    prompts: tuple[str, ...]


def read_subjects(files: Collector) -> list[DreamBenchSubject]:
    """The subjects of a source, sorted by path; what has no partner is noted as missing.

    Raises:
        ManifestError: If a category is unknown or a caption file has not ten lines.
    """
    pairs, alone = dreambench_pairs(files.root)
    files.missing.extend(alone)
    files.missing.extend(
        f"subject {number + 1}" for number in range(len(pairs) + len(alone), DREAMBENCH_SUBJECTS)
    )
    found = []
    for key, (image, caption) in pairs.items():
        category = image.parent.name
        if category not in CATEGORIES:
            raise ManifestError(
                f"{image}: its folder must be one of {', '.join(CATEGORIES)}, got {category!r}"
            )
        lines = [line.strip() for line in read_utf8(caption).splitlines()]
        while lines and not lines[-1]:
            lines.pop()
        if len(lines) != PROMPTS + 1 or not all(lines):
            raise ManifestError(
                f"{caption}: expected the subject and {PROMPTS} prompts, one per line, got "
                f"{len(lines)} lines"
            )
        path = image.relative_to(files.root).as_posix()
        sha256 = files.sha256(path)
        if sha256 is None:
            continue
        found.append(
            DreamBenchSubject(
                reference=reference_of(
                    path=path,
                    sha256=sha256,
                    source="dreambench_plus",
                    role="style" if category == "style" else "subject",
                    class_word=lines[0],
                ),
                category=category,
                stem=key.rsplit("/", 1)[-1],
                subject=lines[0],
                prompts=tuple(lines[1:]),
            )
        )
    return found


def subject_cases(suite: str, subject: DreamBenchSubject) -> Iterator[Case]:
    """The nine cases of a subject."""
    for index, prompt in enumerate(subject.prompts):
        level = difficulty(index)
        yield identified(
            suite,
            1,
            alias=f"{collection_id(subject.category, subject.stem, subject.subject)}-{index}",
            kind="subject",
            references=(subject.reference,),
            prompt=prompt,
            category=subject.category,
            subject=subject.subject,
            difficulty=level,
            segment_query=subject.subject,
            tags={"category": (subject.category,), "difficulty": (level,) if level else ()},
        )


def build(info: SuiteInfo, data_root: Path, options: BuildOptions) -> Suite:
    """Builds the suite.

    Raises:
        PartialSourceError: If subjects are missing and that was not allowed.
        ManifestError: If a caption file is malformed.
    """
    files = Collector("dreambench_plus", data_root)
    subjects = read_subjects(files)
    name = finished_name(info, options, files.missing, expected=DREAMBENCH_SUBJECTS)
    return suite_of(
        (case for subject in subjects for case in subject_cases(name, subject)),
        name=name,
        kind="subject",
        samples_per_case=info.samples,
        sources=(
            SuiteSource(name="dreambench_plus", revision=SOURCES["dreambench_plus"].revision),
        ),
        expected={"references": info.references, "prompts": info.prompts},
        metrics=("clip_t", "clip_i", "dino_i"),
        variants=options.recorded(info),
    )
