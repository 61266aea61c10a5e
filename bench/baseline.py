"""Baselines: the scores of a run as one small file that can be committed, with its fingerprints."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from idbench.files import write_whole
from idbench.records import SCORE_FRAME, Column

FORMAT = "idbench.baseline/1"
DIGITS = 7  # significant digits of a stored value


class BaselineError(ValueError):
    """A file that is no baseline, or one that a run cannot be compared with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What must agree for two runs to be paired case by case, and what is good to know.

    `suite` holds name, version and sha256 of the suite; `method` and `environment` are recorded
    and may differ.
    """

    label: str
    run: str
    method: dict[str, Any]
    suite: dict[str, Any]
    seed_policy: str
    size: tuple[int, int] | None
    environment: dict[str, Any]

    def pairing(self) -> dict[str, object]:
        """The facts that must be equal."""
        return {
            "suite": self.suite["name"],
            "suite version": self.suite["version"],
            "suite sha256": self.suite["sha256"],
            "seed policy": self.seed_policy,
            "image size": self.size,
        }


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run with its scores: the frame of `records.SCORE_FRAME` for this run alone."""

    facts: RunFacts
    columns: tuple[Column, ...]
    frame: pd.DataFrame


def load_run(path: Path) -> ScoredRun:
    """The scores of a run directory, or of the only run under a folder.

    Raises:
        RunError: If there is no run.
        ValueError: If there are several.
    """
    from idbench.store import RunStore, find_runs, load_frame

    found = find_runs([path])
    if len(found) != 1:
        raise ValueError(f"{path} holds {len(found)} runs; name one: {', '.join(map(str, found))}")
    (directory,) = found
    with RunStore.open(directory) as store:
        identity = store.identity
    facts = RunFacts(
        label=identity.label,
        run=directory.name,
        method=identity.method,
        suite=identity.suite,
        seed_policy=identity.seed_policy,
        size=identity.size,
        environment=identity.environment,
    )
    frame, columns = load_frame([directory])
    return ScoredRun(facts, tuple(columns), frame)


def stored(value: float) -> float:
    """A value with the digits that a baseline keeps."""
    return float(f"{value:.{DIGITS}g}")


def require_pairs(run: ScoredRun, baseline: ScoredRun) -> None:
    """Refuses runs whose samples are not pairs.

    Raises:
        BaselineError: If suite, seeds or size differ; the message names each.
    """
    ours, theirs = run.facts.pairing(), baseline.facts.pairing()
    different = [
        f"{name} {ours[name]!r}, not {theirs[name]!r}"
        for name in ours
        if ours[name] != theirs[name]
    ]
    if different:
        raise BaselineError(
            f"{run.facts.label} cannot be compared with the baseline {baseline.facts.label}: "
            f"{'; '.join(different)}. Run it as the baseline was run, or save a new baseline"
        )


def save_baseline(run: ScoredRun, path: Path) -> None:
    """Writes the scores of a run as a baseline; equal scores give equal bytes.

    Raises:
        LookupError: If the run has no scores.
        StorageError: If the file cannot be written.
    """
    if not run.columns or run.frame.empty:
        raise LookupError(f"{run.facts.run} has no scores; run `idbench score` on it first")
    keys = ["case_id", "sample"]
    frame = run.frame.sort_values([*keys, "column", "fingerprint"], kind="stable")
    samples = frame.drop_duplicates(keys)[[*keys, "identity", "multiplicity"]]
    identities = sorted(samples["identity"].unique())
    place = {name: index for index, name in enumerate(identities)}
    document: dict[str, Any] = {
        "format": FORMAT,
        "run": dataclasses.asdict(run.facts),
        "identities": identities,
        "samples": [
            [case, int(sample), place[identity], int(multiplicity)]
            for case, sample, identity, multiplicity in samples.itertuples(index=False)
        ],
        "columns": [
            {
                **dataclasses.asdict(column),
                "low": str(column.low),
                "high": str(column.high),
                "values": _values(frame, column, samples),
            }
            for column in sorted(run.columns, key=lambda c: (c.name, c.fingerprint))
        ],
    }
    write_whole(path, (_compact(document) + "\n").encode())


def read_baseline(path: Path) -> ScoredRun:
    """Reads a baseline file.

    Raises:
        BaselineError: If there is none, or it is damaged or of another format.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise BaselineError(f"{path} has format {document['format']!r}, expected {FORMAT!r}")
        facts = document["run"]
        size = facts.pop("size")
        run = RunFacts(size=tuple(size) if size else None, **facts)
        samples = document["samples"]
        columns, frames = [], []
        for entry in document["columns"]:
            values = entry.pop("values")
            column = Column(**entry | {"low": float(entry["low"]), "high": float(entry["high"])})
            columns.append(column)
            frames.append(_frame(run, column, samples, document["identities"], values))
    except FileNotFoundError:
        raise BaselineError(
            f"there is no baseline {path}; make one with `idbench baseline save RUN -o {path}`"
        ) from None
    except BaselineError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise BaselineError(f"{path} is no baseline or damaged: {error!r}") from error
    return ScoredRun(run, tuple(columns), pd.concat(frames, ignore_index=True))


def _values(frame: pd.DataFrame, column: Column, samples: pd.DataFrame) -> list[float | str]:
    """Per sample the value, or the reason why there is none."""
    chosen = frame[(frame["column"] == column.name) & (frame["fingerprint"] == column.fingerprint)]
    found = {
        (case, sample): reason or "unknown" if math.isnan(value) else stored(value)
        for case, sample, value, reason in chosen[
            ["case_id", "sample", "value", "reason"]
        ].itertuples(index=False)
    }
    return [
        found.get((case, sample), "not_scored")
        for case, sample in samples[["case_id", "sample"]].itertuples(index=False)
    ]


def _frame(
    run: RunFacts,
    column: Column,
    samples: Sequence[Sequence[Any]],
    identities: Sequence[str],
    values: Sequence[float | str],
) -> pd.DataFrame:
    if len(values) != len(samples):
        raise ValueError(f"{column.name} has {len(values)} values for {len(samples)} samples")
    frame = pd.DataFrame(
        {
            "case_id": [entry[0] for entry in samples],
            "sample": [entry[1] for entry in samples],
            "identity": [identities[entry[2]] for entry in samples],
            "multiplicity": [entry[3] for entry in samples],
            "value": [np.nan if isinstance(value, str) else value for value in values],
            "reason": [value if isinstance(value, str) else "" for value in values],
        }
    )
    constants = {
        "label": run.label,
        "run": run.run,
        "method": run.method["name"],
        "suite": run.suite["name"],
        "column": column.name,
        "fingerprint": column.fingerprint,
        "tags": "{}",
    }
    frame = frame.assign(**constants).astype({**SCORE_FRAME, "tags": "str"})
    return frame[[*SCORE_FRAME, "tags"]]


def _compact(document: dict[str, Any]) -> str:
    """JSON with one sample and one column per line: small, and readable in a diff."""
    head = {key: document[key] for key in ("format", "run", "identities")}
    lines = [json.dumps(head, sort_keys=True, indent=1)[:-2] + ","]
    for key in ("samples", "columns"):
        rows = [
            json.dumps(row, sort_keys=True, separators=(",", ":"), allow_nan=False)
            for row in document[key]
        ]
        lines.append(f' "{key}": [\n' + ",\n".join(rows) + f"\n ]{',' if key == 'samples' else ''}")
    return "\n".join([*lines, "}"])
