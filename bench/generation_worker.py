"""The worker that generates: holds a method, asks it in batches, writes images, returns records."""

import gc
import hashlib
import io
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from idbench.canonical import canonical_json
from idbench.files import StorageError, write_whole
from idbench.method_spec import MethodSpec
from idbench.methods.protocol import NOTES, Failure, Method, Request
from idbench.methods.stopped import StoppedError
from idbench.methods.wrappers.answers import as_image, sized
from idbench.prompts.cases import Case
from idbench.prompts.cases import Reference as CaseReference
from idbench.records import Sample
from idbench.redaction import redacted_text
from idbench.requests import build_request

log = logging.getLogger(__name__)

KEPT = "kept"  # the folder of a run for what its method must find again after a kill

# Size, the image as a lossless PNG, and the method's notes as JSON.
Answer = tuple[tuple[int, int], bytes, str | None] | Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One sample to make."""

    case: Case
    sample: int
    seed: int
    alias: str
    distractor: CaseReference | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Samples of one run that a method is asked for at once."""

    run: int
    spec: MethodSpec
    directory: Path
    units: tuple[Unit, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What became of a batch.

    `fitted` is the most samples that the method was asked for at once and had the memory for;
    `refused` the fewest for which it had not, if there were any.
    """

    run: int
    samples: list[Sample]
    fitted: int = 0
    refused: int | None = None


class Units:
    """Batches of samples, for the executor: one sample is the smallest part."""

    def split(self, batch: Batch) -> list[Batch]:
        """One batch per sample."""
        return [replace(batch, units=(unit,)) for unit in batch.units]

    def poison(self, batch: Batch, detail: str) -> Made:
        """The records of samples that killed their worker."""
        lost = Failure("poison", detail)
        samples = [_finish(batch.directory, unit, lost, 0.0) for unit in batch.units]
        return Made(run=batch.run, samples=samples)


class Generator:
    """The worker: keeps the method of the run it is in, writes images, returns records."""

    def __init__(
        self, data_root: Path, device: str, dtype: str, size: tuple[int, int] | None
    ) -> None:
        """Loads nothing yet. `size` is (width, height) of the images, None the method's own."""
        self._data_root, self._device, self._dtype, self._size = data_root, device, dtype, size
        self._run: int | None = None
        self._method: Method | None = None
        self._fitted = 0  # as in `Made`, for the batch at hand
        self._refused: int | None = None

    def __call__(self, batch: Batch) -> Made:
        """Makes the images of a batch and returns its run with the records."""
        if self._method is None or self._run != batch.run:
            if self._method is not None:
                close(self._method)
            self._method = None  # frees the old pipeline before the new one is loaded
            self._method = batch.spec.build(self._device, self._dtype)
            keep_in(self._method, batch.directory / KEPT)
            self._run = batch.run
        self._fitted, self._refused = 0, None
        most = self._method.capabilities.max_people
        requests: list[Request | Failure] = [self._request(unit, most) for unit in batch.units]
        start = time.perf_counter()
        made = iter(self._ask(self._method, [r for r in requests if isinstance(r, Request)]))
        results = [next(made) if isinstance(r, Request) else r for r in requests]
        seconds = (time.perf_counter() - start) / len(batch.units)
        samples = [
            _finish(batch.directory, unit, result, seconds)
            for unit, result in zip(batch.units, results, strict=True)
        ]
        return Made(run=batch.run, samples=samples, fitted=self._fitted, refused=self._refused)

    def _ask(self, method: Method, requests: Sequence[Request]) -> list[Answer]:
        """Asks for a batch, in parts where it is more than memory holds.

        When the method raises, it is asked one by one, so that the fault falls on the right one.
        """
        size = min((self._refused or 2 * len(requests)) // 2, len(requests))
        if size < len(requests):
            parts = [requests[start : start + size] for start in range(0, len(requests), size)]
            return [answer for part in parts for answer in self._ask(method, part)]
        if not requests:
            return []
        try:
            answers: Sequence[Any] = list(method.generate(requests))
            if len(answers) != len(requests):
                raise ValueError(f"the method gave {len(answers)} results for {len(requests)}")
        except (StorageError, StoppedError):
            raise
        except Exception as error:  # whatever a method raises is that sample's failure
            hungry = is_out_of_memory(error)
            if len(requests) == 1:
                log.warning("%s failed on %s", method.name, requests[0].case_id, exc_info=True)
                reason = "out_of_memory" if hungry else "error"
                return [Failure(reason, f"{type(error).__name__}: {error}"[:2000])]
        else:
            self._fitted = max(self._fitted, len(requests))
            return [_encoded(r, answer) for r, answer in zip(requests, answers, strict=True)]
        # Out of the handler: the error no longer holds what the batch had in memory.
        if hungry:
            self._refused = len(requests)
            free_memory()
            return self._ask(method, requests)
        return [self._ask(method, [request])[0] for request in requests]

    def _request(self, unit: Unit, most_people: int) -> Request | Failure:
        people = len({reference.person for reference in unit.case.references})
        if people > most_people:
            return Failure("too_many_people", f"{people} people, the method does {most_people}")
        try:
            return build_request(
                unit.case,
                unit.sample,
                unit.seed,
                data_root=self._data_root,
                alias=unit.alias,
                distractor=unit.distractor,
                size=self._size,
            )
        except (OSError, ValueError) as error:
            return Failure("bad_reference", str(error))


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch could help."""
    # By name, because torch may not be installed; its error is no MemoryError.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def free_memory() -> None:
    """Gives back what an accelerator still keeps of a batch that did not fit."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _encoded(request: Request, answer: object) -> Answer:
    """The answer as a lossless PNG, or why it is none."""
    try:
        image = sized(as_image(answer), request.width, request.height)
        if isinstance(image, Failure):
            return image
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
    except (OSError, ValueError) as error:
        return Failure("not_an_image", str(error))
    notes = image.info.get(NOTES)  # a photo that is passed on may carry text of this name
    try:
        text = canonical_json(notes) if isinstance(notes, dict) else None
    except (TypeError, ValueError) as error:
        return Failure("bad_notes", f"the notes of the image are not JSON: {error}")
    return image.size, buffer.getvalue(), text


def _finish(directory: Path, unit: Unit, result: Answer, seconds: float) -> Sample:
    common: dict[str, Any] = {
        "case_id": unit.case.case_id,
        "sample": unit.sample,
        "seed": unit.seed,
        "seconds": seconds,
    }
    if isinstance(result, Failure):
        return Sample(
            **common, status="failed", reason=result.reason, detail=redacted_text(result.detail)
        )
    (width, height), png, notes = result
    path = Path("images") / unit.case.case_id / f"{unit.sample:03d}.png"
    write_whole(directory / path, png)
    return Sample(
        **common,
        status="ok",
        path=path.as_posix(),
        sha256=hashlib.sha256(png).hexdigest(),
        width=width,
        height=height,
        notes=notes,
    )


def keep_in(method: Method, folder: Path) -> None:
    """Tells a method where to keep what must outlive the process, where it can be told to.

    Hosted models keep every answer that was paid for, so that a run that is killed between the
    answer and its record does not pay again.
    """
    keep = getattr(method, "keep_in", None)
    if callable(keep):
        keep(folder)


def close(method: Method) -> None:
    """Ends what a method holds, such as a program, where it can be told to."""
    close = getattr(method, "close", None)
    if callable(close):
        close()
