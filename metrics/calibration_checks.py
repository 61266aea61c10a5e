"""The rows of part E of the metric specification, column by column."""

from collections.abc import Iterator

from idbench.metrics.calibration import (
    AtLeast,
    Below,
    Changed,
    Check,
    Equals,
    Expectation,
    Falling,
    LastIsLowest,
    Misses,
    Near,
    Opposite,
    Rising,
    Unchanged,
)

_SIMILARITIES = (
    "facesim@strict[dlib]",
    "facesim@strict[antelopev2]",
    "facesim@strict[buffalo_l]",
    "facesim@strict[facenet]",
)
_COSINES = (
    "clip_i.vs_ref@strict[clip-b32]",
    "dino@ibench[dinov2-base]",
    "dino@strict[dino-vits16]",
    "dino@strict[dino-vits8]",
    "dino@strict[dinov2-small]",
    "fgis@ibench[dinov2-base]",
    "fgis@strict[dinov2-base]",
)
_LANDMARKS = ("landmarkdiff@ibench[mtcnn]", "landmarkdiff@strict[mtcnn]")
_POSES = ("dlib68", "hopenet")
_MUSIQ = ("image_quality@strict[musiq-spaq]", "image_quality@strict[musiq-koniq]")
_BLUR = ("none", "blur 1", "blur 2", "blur 4")
_JPEG = ("none", "jpeg 90", "jpeg 50", "jpeg 20")
_NOISE = ("none", "noise 10", "noise 25", "noise 50")
_SAME_FILE = ("roll 10", "roll 15", "roll 20", "half size", "pad 20 %", "mirror")


def checks() -> Iterator[Check]:
    """Every check, in the order of the specification.

    Check 20 (duplicated items) is one of means and intervals, not of a metric, and is among the
    tests of the aggregates; check 21 (order and batches) is asked of every column by the harness.
    """

    def check(number: int, column: str, scenarios: tuple[str, ...], must: Expectation) -> Check:
        return Check(number=number, column=column, scenarios=scenarios, expectation=must)

    for column in (*_SIMILARITIES, *_COSINES):
        yield check(1, column, ("none",), Near(1.0, 1e-4))
    for column in _LANDMARKS:
        yield check(2, column, ("none",), Near(0.0, 1e-9))
    for backend in _POSES:
        for axis in ("yaw", "pitch", "roll"):
            yield check(2, f"posediv.{axis}@strict[{backend}]", ("none",), Near(0.0, 1e-6))
    for column in ("exprdiv@ibench[fer-vgg19]", "exprdiv@strict[fer-vgg19]"):
        yield check(2, column, ("none",), Near(0.0, 0.0))
    yield check(2, "expr_change@strict[dlib68]", ("none",), Near(0.0, 1e-9))
    yield check(2, "dreamsim@strict[ensemble]", ("none",), Near(0.0, 1e-4))
    for backend in _POSES:
        yield check(
            3,
            f"posediv.roll@strict[{backend}]",
            ("roll 10", "roll 20", "roll 30"),
            Equals((10.0, 20.0, 30.0), 4.0),
        )
    for column in _LANDMARKS:
        yield check(4, column, ("roll 15",), Near(0.104, 0.03))
    yield check(4, "landmarkdiff.procrustes@strict[mtcnn]", ("roll 15",), Below(0.04))
    for column in _SIMILARITIES:
        yield check(5, column, ("roll 10", "roll 15", "roll 20"), AtLeast(0.85))
    for column in _LANDMARKS:
        yield check(6, column, ("half size",), Below(0.03))
        yield check(7, column, ("pad 20 %",), Below(0.03))
    for column in _SIMILARITIES:
        yield check(7, column, ("pad 20 %",), AtLeast(0.85))
        yield check(8, column, ("mirror",), AtLeast(0.7))
    for backend in _POSES:
        for axis in ("yaw", "roll"):
            column = f"headpose.{axis}@strict[{backend}]"
            yield check(8, column, ("none", "mirror"), Opposite(6.0))
    for column in (*_SIMILARITIES, "sharpness@strict[laplacian]", *_MUSIQ):
        yield check(9, column, _BLUR, Falling())
    for column in _SIMILARITIES:
        yield check(10, column, ("brightness 0.5", "brightness 1.3"), AtLeast(0.8))
    for column in _LANDMARKS:
        yield check(10, column, ("brightness 0.5", "brightness 1.3"), Below(0.03))
    for column in (*_SIMILARITIES, *_MUSIQ):
        yield check(11, column, _JPEG, Falling())
    for column in _SIMILARITIES:
        yield check(12, column, (*_SAME_FILE, "swap"), LastIsLowest())
        yield check(13, column, ("no face",), Misses("no_face"))
    for backend in ("antelopev2", "buffalo_l", "facenet"):
        column = f"facesim.penalised@strict[{backend}]"
        yield check(13, column, ("none", "no face"), Falling())
    for backend in ("dlib", "antelopev2", "buffalo_l", "facenet"):
        yield check(14, f"facesim@strict[{backend}]", ("crowd",), AtLeast(0.7))
        yield check(14, f"facesim.largest@strict[{backend}]", ("none", "crowd"), Falling())
        yield check(14, f"facesim.largest@strict[{backend}]", ("crowd",), Below(0.5))
    yield check(15, "n_faces@strict[mtcnn]", ("grey",), Near(0.0, 0.0))
    yield check(15, "n_faces@strict[mtcnn]", ("none",), AtLeast(1.0))
    for backend in _POSES:
        yield check(15, f"posediv.yaw@strict[{backend}]", ("grey",), Misses("no_face"))
    yield check(15, "posediv.yaw@ibench[hopenet]", ("grey",), AtLeast(0.0))
    yield check(15, "landmarkdiff@ibench[mtcnn]", ("grey",), Misses("no_face"))
    for column in ("clip_i.vs_base@ibench[clip-l14]", "clip_i.vs_base@strict[clip-l14]"):
        yield check(16, column, ("none",), Near(1.0, 1e-4))
    yield check(16, "facesim_gain@strict[antelopev2]", ("none",), Near(0.0, 1e-6))
    for column in ("clip_t@ibench[clip-l14]", "clip_t@strict[clip-l14]"):
        yield check(17, column, ("full prompt", "contradicted prompt"), Unchanged(1e-6))
    yield check(
        17, "clip_t.long@strict[clip-l14]", ("full prompt", "contradicted prompt"), Changed(1e-3)
    )
    for column in ("clip_t@strict[clip-l14]", "i_reward@strict[image-reward]"):
        yield check(18, column, ("own prompts", "shuffled prompts"), Falling())
    for backend in ("antelopev2", "buffalo_l"):
        column = f"multi_facesim@strict[{backend}]"
        yield check(19, column, ("pair", "pair exchanged"), Unchanged(1e-6))
        column = f"multi_facesim.swapped@strict[{backend}]"
        yield check(19, column, ("pair", "pair exchanged"), Rising())
    yield check(22, "clip_iqa@strict[clip-rn50]", _NOISE, Falling())
    for column in _MUSIQ:
        yield check(22, column, _NOISE, Falling())
