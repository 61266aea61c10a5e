"""Checks that compare images: repeatability, batches, order, seeds, references, failures."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
from PIL import Image

from idbench.methods.conformance.outcome import FailedError, NotApplicableError
from idbench.methods.conformance.sample_requests import (
    Portrait,
    sound_request,
    without_references,
)
from idbench.methods.protocol import Failure, Kind, Method, Request


class ImageChecks:
    """The images of one method and what is compared among them.

    `repeatable` comes before the checks that compare with its images.
    """

    def __init__(self, method: Method, pair: Sequence[Portrait], tolerance: int) -> None:
        """Prepares the requests; `tolerance` is the largest difference that counts as none."""
        self._method, self._pair, self._tolerance = method, pair, tolerance
        self._can = method.capabilities
        order: tuple[Kind, ...] = get_args(Kind)
        self.kinds = [kind for kind in order if kind in self._can.kinds]
        self._requests = [self._request(seed=seed) for seed in (11, 12, 13)]
        self._images: list[Image.Image] = []

    def first_image(self) -> Image.Image:
        """The answer to the first sound request."""
        return self._ask(self._method, self._requests[:1])[0]

    def answers(self, kind: Kind) -> str:
        """A sound request of the kind is answered with an RGB image."""
        (image,) = self._ask(self._method, [self._request(kind=kind)])
        return f"{image.width} x {image.height} RGB"

    def size(self) -> str:
        """The image has the size that was asked for, and some size if none was."""
        if self.kinds[0] == "edit_restoration":
            raise NotApplicableError("an edit keeps the size of its image")
        asked = self._requests[0]
        (image,) = self._ask(self._method, [asked])
        if image.size != (asked.width, asked.height):
            raise FailedError(f"asked for {asked.width} x {asked.height}, got {image.size}")
        (free,) = self._ask(self._method, [replace(asked, width=None, height=None)])
        return f"{image.width} x {image.height} as asked; {free.width} x {free.height} if free"

    def inputs_untouched(self) -> str:
        """The images of the request are the same afterwards."""
        request = self._request(seed=11)
        before = _pixels(request)
        self._ask(self._method, [request])
        if _pixels(request) != before:
            raise FailedError("the method painted on an image of the request")
        return "references are as they were"

    def repeatable(self) -> str:
        """The same request gives the same image."""
        self._need_determinism()
        self._images = [self._ask(self._method, [request])[0] for request in self._requests]
        again = self._ask(self._method, [self._requests[0]])
        self._equal(again, self._images[:1], "the same request gave two images")
        return "the same request gives the same image"

    def repeatable_fresh(self, fresh: Callable[[], Method]) -> str:
        """A second instance gives the same image."""
        self._need_determinism()
        again = self._ask(fresh(), [self._requests[0]])
        self._equal(again, self._images[:1], "a second instance gave another image")
        return "so does a second instance"

    def batch(self) -> str:
        """A request gives the same image alone and in company."""
        self._need_determinism()
        size = min(self._can.max_batch_size or 3, 3)
        if size == 1:
            raise NotApplicableError("max_batch_size is 1")
        together = self._ask(self._method, self._requests[:size])
        self._equal(together, self._images[:size], "images depend on the rest of the batch")
        return f"1 and {size} at a time agree"

    def order(self) -> str:
        """A request gives the same image whatever came before."""
        self._need_determinism()
        size = min(self._can.max_batch_size or 3, 3)
        backwards = self._requests[::-1]
        found: list[Image.Image] = []
        for start in range(0, len(backwards), size):
            found += self._ask(self._method, backwards[start : start + size])
        self._equal(found[::-1], self._images, "images depend on the order of requests")
        return "forwards and backwards agree"

    def seed(self) -> str:
        """The seed moves pixels, or the capabilities say that it does not."""
        self._need_determinism()
        base = self._requests[0]
        moved = False
        for step in (1, 1000, 123457):  # a method may make one choice of few
            (other,) = self._ask(self._method, [replace(base, seed=base.seed + step)])
            moved = self._differ(other, self._images[0])
            if moved:
                break
        if moved != self._can.uses_seed:
            raise FailedError(
                f"capabilities.uses_seed is {self._can.uses_seed}, "
                f"but another seed gives {'another' if moved else 'the same'} image"
            )
        return f"another seed gives {'another' if moved else 'the same'} image, as declared"

    def references(self) -> str:
        """The references move pixels, or the capabilities say that they do not."""
        self._need_determinism()
        base = self._requests[0]
        (other,) = self._ask(
            self._method,
            [
                replace(
                    self._request(seed=base.seed, pair=self._pair[::-1]),
                    case_id=base.case_id,
                    distractor=base.distractor,
                )
            ],
        )
        moved = self._differ(other, self._images[0])
        if moved != self._can.uses_references:
            raise FailedError(
                f"capabilities.uses_references is {self._can.uses_references}, "
                f"but another reference gives {'another' if moved else 'the same'} image"
            )
        return f"another reference gives {'another' if moved else 'the same'} image, as declared"

    def prompt(self) -> str:
        """Informs whether the prompt moves pixels."""
        self._need_determinism()
        base = self._requests[0]
        (other,) = self._ask(self._method, [replace(base, prompt="A person rides a white horse.")])
        moved = self._differ(other, self._images[0])
        raise NotApplicableError(f"another prompt gives {'another' if moved else 'the same'} image")

    def failure(self) -> str:
        """A request that lacks its references, between two sound ones where batches allow it."""
        size = min(self._can.max_batch_size or 3, 3)
        sound = [self._requests[0], self._requests[2]][: max(1, size - 1)]
        batch = [sound[0], without_references(self._requests[1]), *sound[1:]]
        answers: list[object] = []
        for start in range(0, len(batch), size):
            answers += self._method.generate(batch[start : start + size])
        if len(answers) != len(batch):
            raise FailedError(f"{len(answers)} answers to {len(batch)} requests")
        lacking = answers.pop(1)
        images = [image_of(answer) for answer in answers]
        if self._can.deterministic:
            before = [self._images[0], self._images[2]][: len(images)]
            self._equal(images, before, "a request that fails changes its neighbours")
        if isinstance(lacking, Failure):
            if not lacking.reason:
                raise FailedError("the failure gives no reason")
            return f"without references: {lacking.reason}"
        image_of(lacking)
        if self._can.uses_references:
            raise FailedError("it made an image of nobody: without references there is a Failure")
        return "answers without references, which it does not use"

    def _request(
        self, *, kind: Kind | None = None, seed: int = 11, pair: Sequence[Portrait] | None = None
    ) -> Request:
        request = sound_request(kind or self.kinds[0], pair or self._pair, seed=seed)
        return request if self._can.distractor else replace(request, distractor=None)

    def _ask(self, method: Method, requests: Sequence[Request]) -> list[Image.Image]:
        answers = method.generate(requests)
        if len(answers) != len(requests):
            raise FailedError(f"{len(answers)} answers to {len(requests)} requests")
        return [image_of(answer) for answer in answers]

    def _need_determinism(self) -> None:
        if not self._can.deterministic:
            raise NotApplicableError("the method declares that it is not deterministic")

    def _equal(
        self, found: Sequence[Image.Image], expected: Sequence[Image.Image], fault: str
    ) -> None:
        for one, two in zip(found, expected, strict=True):
            if self._differ(one, two):
                raise FailedError(f"{fault} ({difference(one, two)})")

    def _differ(self, one: Image.Image, two: Image.Image) -> bool:
        return one.size != two.size or largest_difference(one, two) > self._tolerance


def image_of(answer: object) -> Image.Image:
    """The image that a sound request was answered with.

    Raises:
        FailedError: If the answer is a failure, no Pillow image, or not RGB.
    """
    if isinstance(answer, Failure):
        raise FailedError(f"a sound request failed: {answer.reason}: {answer.detail}")
    if not isinstance(answer, Image.Image):
        kind = type(answer)
        raise FailedError(f"expected a PIL image, got {kind.__module__}.{kind.__qualname__}")
    if answer.mode != "RGB":
        raise FailedError(f"expected an RGB image, got mode {answer.mode!r}")
    return answer


def _pixels(request: Request) -> list[bytes]:
    images = [reference.image for reference in request.references]
    if request.distractor is not None:
        images.append(request.distractor.image)
    if request.edit is not None:
        images += [request.edit.original, request.edit.edited]
    return [image.tobytes() for image in images]


def largest_difference(one: Image.Image, two: Image.Image) -> int:
    """Of two images of one size, over all channels."""
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(two, np.int16)).max())


def difference(one: Image.Image, two: Image.Image) -> str:
    """How two images differ, in words."""
    if one.size != two.size:
        return f"sizes {one.size} and {two.size}"
    return f"channels differ by up to {largest_difference(one, two)}"
