"""What is left to make of a run: its open samples, and those whose image is gone."""

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from idbench.generation_worker import Unit
from idbench.metrics.images import sha256_of
from idbench.prompts.cases import Reference
from idbench.prompts.suites import Suite
from idbench.records import Sample
from idbench.requests import distractors
from idbench.store import RunStore


class Remaining:
    """The samples of a run that are to be made, in constant memory.

    Attributes:
        gone: Samples on record whose image is not in the folder any more.
    """

    def __init__(
        self,
        store: RunStore,
        suite: Suite,
        *,
        only: Collection[str] | None,
        retry_failed: bool,
        distractor: bool,
    ) -> None:
        """Looks which images are there.

        `only` are the ids of the cases to make, None for all that are planned. With
        `retry_failed`, failed samples are to be made again, and images that scoring found damaged
        are read. `distractor` gives each unit a reference of another identity.
        """
        self._store, self._suite, self._only = store, suite, only
        self._retry_failed, self._distractor = retry_failed, distractor
        doubted = store.doubted() if retry_failed else set()
        self.gone = {
            (sample.case_id, sample.sample)
            for sample in store.walk(("ok",))
            if sample.path
            and not _is_there(
                store.directory / sample.path,
                sample.sha256 if (sample.case_id, sample.sample) in doubted else None,
            )
        }

    def count(self) -> int:
        """How many samples are left."""
        if self._only is not None:
            return sum(1 for _ in self._samples())
        counts = self._store.counts()
        again = counts["failed"] if self._retry_failed else 0
        return counts["pending"] + again + len(self.gone)

    def units(self) -> Iterator[Unit]:
        """What is left, in order of case id and sample; the run may be written meanwhile."""
        repeated: set[int] | None = None
        others: dict[str, Reference] = {}
        for sample in self._samples():
            if repeated is None:  # asked for only when there is something to make
                repeated = _repeated_aliases(self._suite)
                others = distractors(self._suite.cases) if self._distractor else {}
            case = self._suite.case(sample.case_id)
            yield Unit(
                case=case,
                sample=sample.sample,
                seed=sample.seed,
                alias="" if _alias_number(case.alias) in repeated else case.alias,
                distractor=others.get(sample.case_id),
            )

    def _samples(self) -> Iterator[Sample]:
        statuses = ["pending"] + (["failed"] if self._retry_failed else [])
        statuses += ["ok"] if self.gone else []
        for sample in self._store.walk(statuses):
            if self._only is not None and sample.case_id not in self._only:
                continue
            if sample.status != "ok" or (sample.case_id, sample.sample) in self.gone:
                yield sample


def _is_there(path: Path, sha256: str | None) -> bool:
    """Whether an image has bytes; with `sha256`, whether they are those that were recorded."""
    try:
        return path.stat().st_size > 0 and (sha256 is None or sha256_of(path) == sha256)
    except OSError:
        return False


def _alias_number(alias: str) -> int:
    return int.from_bytes(hashlib.blake2b(alias.encode(), digest_size=8).digest(), "big")


def _repeated_aliases(suite: Suite) -> set[int]:
    """Numbers of the aliases that several cases have; eight bytes of memory per case."""
    numbers = np.fromiter((_alias_number(case.alias) for case in suite.cases), dtype=np.uint64)
    unique, counts = np.unique(numbers, return_counts=True)
    return {int(number) for number in unique[counts > 1]}
