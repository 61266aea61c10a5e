"""The rows of a run: samples, scores and the columns that scores belong to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1

SampleStatus = Literal["pending", "ok", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Repetition `sample` of a case, and what became of it.

    `path` is relative to the run directory; `sha256` is that of the image file. `reason` and
    `detail` say why there is no image. `notes` is what the method left under `NOTES`, as JSON.
    """

    case_id: str
    sample: int
    seed: int
    status: SampleStatus
    path: str | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    reason: str | None = None
    detail: str | None = None
    notes: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What a column of scores means: enough to print, rank and compare it without the metric.

    `fingerprint` identifies the metric, its version and every network under it; two columns of one
    name with different fingerprints are different columns. `details` is the JSON it was hashed
    from, so that a difference can be named. `chance` is the score of guessing, where it matters.
    """

    name: str  # metric[.variant]@protocol[backend]
    fingerprint: str
    unit: str
    higher_is_better: bool | None
    low: float
    high: float
    axis: Literal["preservation", "editability", "text", "quality"]
    comparable_to_published: bool
    details: str
    chance: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One value of one column for one sample, or the reason why there is none."""

    case_id: str
    sample: int
    column: str
    fingerprint: str
    value: float | None
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SetScore:
    """The value of a metric of a whole run, such as FID; None with the reasons where it has none.

    `n` samples of `total` planned ones went into it, both counted with multiplicity; `samples` are
    the planned ones counted once. `inputs` identifies the images.
    """

    column: Column
    value: float | None
    inputs: str
    n: int
    total: int
    samples: int
    reasons: Mapping[str, int]


# Columns of the score frame that tables, fronts, comparisons and gates read: one row per planned
# sample and column. `label` names the run as people read it ("blur(sigma=4)"), `run` is its folder
# name, `identity` the unit that intervals resample, `value` NaN where missing and `reason` why.
SCORE_FRAME = {
    "label": "str",
    "run": "str",
    "method": "str",
    "suite": "str",
    "case_id": "str",
    "sample": "int64",
    "identity": "str",
    "multiplicity": "int64",
    "column": "str",
    "fingerprint": "str",
    "value": "float64",
    "reason": "str",  # "" where there is a value
}
