"""Requests of one call, sorted into batches of one image size."""

from collections.abc import Callable, Sequence

from PIL import Image

from idbench.methods.common.flux_config import FluxConfig, check_size
from idbench.methods.protocol import Failure, Request

Answer = Image.Image | Failure
MakeImages = Callable[[Sequence[Request], int, int], Sequence[Answer]]

NOT_FINITE = Failure("not_finite", "the decoded image has values that are no numbers")


def answer_by_size(
    requests: Sequence[Request], config: FluxConfig, make: MakeImages
) -> list[Answer]:
    """Answers in the order of the requests.

    With `exact_batches` each is made by itself, else those of one size are made together.

    A size that FLUX cannot make becomes a failure of that request alone.

    Args:
        requests: Of one call.
        config: Has the size where a request states none.
        make: Images for requests of one size, given width and height.
    """
    answers: list[Answer | None] = [None] * len(requests)
    by_size: dict[tuple[int, ...], list[int]] = {}
    for index, request in enumerate(requests):
        width, height = request.width or config.width, request.height or config.height
        try:
            check_size(width, height)
        except ValueError as error:
            answers[index] = Failure("bad_size", str(error))
        else:
            alone = (index,) if config.exact_batches else ()
            by_size.setdefault((width, height, *alone), []).append(index)
    for (width, height, *_), indices in by_size.items():
        made = make([requests[index] for index in indices], width, height)
        for index, answer in zip(indices, made, strict=True):
            answers[index] = answer
    return [answer for answer in answers if answer is not None]
