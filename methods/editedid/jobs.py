"""What is asked for one image: the pair, what to keep of the edit, whose faces."""

from dataclasses import dataclass

from PIL import Image

from idbench.methods.editedid.faces import Box
from idbench.methods.editedid.masks import MaskLike
from idbench.methods.editedid.text import Prompts


@dataclass(frozen=True, kw_only=True, slots=True)
class EditedElement:
    """Something that the edit brought and that is to stay.

    Attributes:
        text: As it will stand in the prompt.
        mask: Of the edited image's proportions, see `user_mask`; without one a face parser must
            know the element.
        person: Whose it is, counted from the left; with None each connected part of the mask goes
            to the face that it overlaps most, and an element without a mask to everybody.
    """

    text: str
    mask: MaskLike | None = None
    person: int | None = None

    def __post_init__(self) -> None:
        """Checks that there is a text.

        Raises:
            ValueError: If it is blank.
        """
        if not self.text.strip():
            raise ValueError("an element needs a text, as it will stand in the prompt; got a blank")


@dataclass(frozen=True, kw_only=True, slots=True)
class FacePlace:
    """Where a face is known to be, in pixels, and whether it is to be restored.

    A place needs one box; the other is then taken to be at the same place of its image.
    """

    person: int
    original_box: Box | None = None
    edited_box: Box | None = None
    restore: bool = True

    def __post_init__(self) -> None:
        """Checks that there is a box.

        Raises:
            ValueError: If there is none.
        """
        if self.original_box is None and self.edited_box is None:
            raise ValueError(f"person {self.person} has a place without a box")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One image to restore.

    Attributes:
        original: RGB, with the true identities.
        edited: RGB, what an editor made of it.
        elements: What to keep of the edit.
        identity: Elements taken from the original.
        identity_masks: Masks of some of these, (element, mask), in the original's frame.
        places: Known faces; empty leaves it to the detector.
        pairs: Which face of the original is which of the edited image, both counted from 0 at the
            left; overrides association.
        prompts: For every face; None makes them from the elements.
        seed: For the inpainter.
    """

    original: Image.Image
    edited: Image.Image
    elements: tuple[EditedElement, ...] = ()
    identity: tuple[str, ...] = ("face",)
    identity_masks: tuple[tuple[str, MaskLike], ...] = ()
    places: tuple[FacePlace, ...] = ()
    pairs: tuple[tuple[int, int], ...] | None = None
    prompts: Prompts | None = None
    seed: int = 0
