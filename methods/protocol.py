"""What a method is asked (`Request`) and what it answers: an image or a `Failure` per request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from PIL import Image

Kind = Literal["single_id", "multi_id", "subject", "multi_subject", "edit_restoration"]
# Key of `Image.info` under which a method may leave what it decided on the way to an image, such
# as weights: a dict that JSON can express. The harness keeps it with the sample.
NOTES = "idbench.notes"
# How a method gets here: code of the package, a YAML recipe, a program of its authors in an
# environment of its own, or images that somebody made elsewhere.
Route = Literal["native", "recipe", "command", "images"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """One input image of one identity or subject.

    `image` is RGB, upright, at its native size. `face_box` is (x0, y0, x1, y1) in pixels.
    `person` is the slot it belongs to, 0-based, left to right.
    """

    image: Image.Image
    sha256: str
    role: str = "identity"
    person: int = 0
    class_word: str | None = None
    gender: str | None = None
    face_box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """What the case asks of one person. `box` is relative, (x0, y0, x1, y1) in [0, 1]."""

    person: int = 0
    expression: str | None = None
    orientation: str | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Element:
    """A part of an edit that must survive. `mask` is mode "L", 255 where the element is."""

    text: str
    mask: Image.Image | None = None
    person: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EditFace:
    """One face of an edit: where it was, where it is now (pixels), and whether to restore it."""

    person: int
    original_box: tuple[float, float, float, float] | None = None
    edited_box: tuple[float, float, float, float] | None = None
    restore: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """An image that somebody edited and the one it was made from (both RGB)."""

    original: Image.Image
    edited: Image.Image
    instruction: str | None = None
    elements: tuple[Element, ...] = ()
    faces: tuple[EditFace, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One image to make.

    The same request gives the same image whatever ran before it or beside it in a batch: all
    randomness comes from `seed`. `references` are in person order. `distractor` is a reference of
    another identity of the suite, given only to methods whose capabilities ask for it. `width` and
    `height` in pixels; None leaves the size to the method. `alias` is the readable name of the
    case, empty where it is not unique in the suite.
    """

    case_id: str
    sample: int
    seed: int
    prompt: str
    kind: Kind = "single_id"
    references: tuple[Reference, ...] = ()
    people: tuple[Person, ...] = ()
    edit: Edit | None = None
    distractor: Reference | None = None
    width: int | None = None
    height: int | None = None
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no image. `reason` is a slug such as "error", "no_face" or "refused"."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a method can be asked for; the harness refuses or skips the rest, and says so.

    `distractor` asks for another identity with every request. `uses_seed` and `uses_references`
    are false where the seed or the references move no pixel, as for a copy or a base model.
    """

    kinds: frozenset[Kind] = frozenset({"single_id"})
    max_people: int = 1
    max_batch_size: int | None = None
    distractor: bool = False
    deterministic: bool = True
    uses_seed: bool = True
    uses_references: bool = True


@runtime_checkable
class Method(Protocol):
    """Turns requests into images.

    `fingerprint` returns everything that can move a pixel, as JSON: parameters, version of the
    method's code, weights by sha256, dtype. Two methods with equal fingerprints are the same one.
    Constructing a method is cheap; weights are loaded by the first `generate`.
    """

    @property
    def name(self) -> str:
        """What tables and folders call it."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can be asked for."""
        ...

    def fingerprint(self) -> Mapping[str, object]:
        """Everything that can move a pixel; JSON-serialisable."""
        ...

    def generate(self, requests: Sequence[Request]) -> Sequence[Image.Image | Failure]:
        """One RGB image or failure per request, in order.

        May raise `idbench.methods.stopped.StoppedError` to end the run where the fault is not the
        sample's. A method may have two more functions: `close()`, to end what it holds, and
        `keep_in(folder)`, which tells it before the first request where to keep what the next
        process of the same run must find.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodInfo:
    """What `idbench list methods` shows of a method without importing its module.

    `rows` are the rows of the papers' tables that it stands for, "paper:table:row". `reason` says
    why the route is not another one, or where it differs from what the papers ran. `needs` are
    the files and folders that it reads, as they lie in the weights folder; patterns of names are
    allowed. `given` are arguments that the name itself stands for.
    """

    name: str
    target: str  # "module:Class", imported on use
    summary: str
    kinds: tuple[Kind, ...] = ("single_id",)
    base: str = ""  # the model underneath, such as "flux-dev"; empty for baselines
    licence: str = ""  # of the weights
    extras: tuple[str, ...] = field(default=())  # of idbench, needed to run it
    route: Route = "native"
    rows: tuple[str, ...] = ()
    reason: str = ""
    needs: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()
