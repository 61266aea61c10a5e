"""Scores of a vision-language judge for the images of a run, recorded like any other column."""

from collections.abc import Sequence
from pathlib import Path

from idbench.canonical import canonical_json, fingerprint
from idbench.metrics.images import ImageError, read_rgb
from idbench.metrics.judge import Judge, judged
from idbench.metrics.protocol import Missing
from idbench.progress import Progress
from idbench.prompts.cases import Case
from idbench.prompts.materialise import materialise
from idbench.prompts.sources import resolve
from idbench.prompts.suites import Suite
from idbench.records import Column, Sample, Score
from idbench.store import RunStore

CHUNK = 8


def judge_columns(judge: Judge) -> list[Column]:
    """The three columns of a judge: preservation, prompt following, and their product."""
    columns = []
    for info in judged(judge.settings.model):
        details = {"metric": info.name, "version": 1, **judge.settings.fingerprint()}
        columns.append(
            Column(
                name=info.columns()[0],
                fingerprint=fingerprint(details),
                unit=info.unit,
                higher_is_better=info.higher_is_better,
                low=info.bounds[0],
                high=info.bounds[1],
                axis=info.axis,
                comparable_to_published=info.comparable_to_published,
                details=canonical_json(details),
            )
        )
    return columns


def judge_run(directory: Path, suite: Suite, judge: Judge, data_root: Path) -> int:
    """Judges the samples that have no score yet; returns how many.

    Every answer is cached, so that a run that was stopped goes on where it was.

    Raises:
        JudgeError: If the endpoint fails; what was recorded stays.
        FileNotFoundError: If a file of the suite is gone.
        StorageError: If the disk refuses.
    """
    materialise(suite, data_root)
    columns = judge_columns(judge)
    with RunStore.open(directory) as store, store.writing():
        store.add_columns(columns)
        done = set.intersection(*(store.scored(c.name, c.fingerprint) for c in columns))
        samples = [s for s in store.samples() if s.status != "pending"]
        todo = [s for s in samples if (s.case_id, s.sample) not in done]
        with Progress("judge", len(todo), "samples") as progress:
            for start in range(0, len(todo), CHUNK):
                chunk = todo[start : start + CHUNK]
                scores: list[Score] = []
                for sample in chunk:
                    case = suite.case(sample.case_id)
                    scores += _scores(sample, case, directory, judge, columns, data_root)
                store.add_scores(scores)
                progress.advance(len(chunk))
    return len(todo)


def _scores(
    sample: Sample,
    case: Case,
    directory: Path,
    judge: Judge,
    columns: Sequence[Column],
    data_root: Path,
) -> list[Score]:
    values: list[float | Missing]
    if sample.path is None:
        values = [Missing("no_image", f"{sample.reason}: {sample.detail}")] * len(columns)
    else:
        try:
            values = _judged(case, directory / sample.path, judge, data_root)
        except ImageError as error:
            values = [Missing("unreadable_image", str(error))] * len(columns)
    return [
        Score(
            case_id=sample.case_id,
            sample=sample.sample,
            column=column.name,
            fingerprint=column.fingerprint,
            value=None if isinstance(value, Missing) else value,
            reason=value.reason if isinstance(value, Missing) else None,
            detail=value.detail if isinstance(value, Missing) else None,
        )
        for column, value in zip(columns, values, strict=True)
    ]


def _judged(case: Case, image: Path, judge: Judge, data_root: Path) -> list[float | Missing]:
    generated = read_rgb(image)
    kept: float | Missing = Missing("no_reference", "the case has no references")
    if case.references:
        reference = case.references[0]
        path = resolve(reference, reference.source, data_root)
        kept = judge.concept_preservation(read_rgb(path), generated)
    followed = judge.prompt_following(case.prompt, generated)
    if isinstance(kept, Missing):
        return [kept, followed, kept]
    if isinstance(followed, Missing):
        return [kept, followed, followed]
    return [kept, followed, kept * followed]
