"""What every baseline shares: photographs in, one image per request out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, get_args

import numpy as np
from PIL import Image

from idbench.methods.baselines.layout import canvas_size, centre_in_panel, fit, panels
from idbench.methods.baselines.photos import NoImageError, Photo, photos_of
from idbench.methods.protocol import Capabilities, Failure, Kind, Request

LAYOUT_VERSION = 1  # of photos.py and layout.py; raised when they move a pixel

UNSEEDED = Capabilities(kinds=frozenset(get_args(Kind)), max_people=64, uses_seed=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline(ABC):
    """A method that changes photographs by a known rule and needs no weights.

    The photographs of a request are laid out at the size of the answer and each is changed in its
    place, so that a person keeps its slot whatever the change. Every change draws from its own
    generator, seeded by the seed of the request and the slot; nothing depends on the batch.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raised with every change of a class that moves a pixel

    @property
    def capabilities(self) -> Capabilities:
        """Any kind, any number of people; the seed moves nothing."""
        return UNSEEDED

    @abstractmethod
    def change(self, photo: Photo, generator: np.random.Generator) -> Image.Image:
        """The changed photograph, at the same size."""

    def photos(self, request: Request) -> list[Photo]:
        """The photographs to start from, left to right."""
        return photos_of(request)

    def picture(self, request: Request) -> Image.Image:
        """The answer to one request.

        Raises:
            NoImageError: If there is none.
        """
        photos = self.photos(request)
        width, height = size = canvas_size(request, photos)
        if len(photos) == 1:
            return self.change(fit(photos[0], width, height), generator_of(request)).copy()
        canvas = Image.new("RGB", size)
        for slot, (photo, edges) in enumerate(zip(photos, panels(size, photos), strict=True)):
            centre = centre_in_panel(photo, edges, width)
            placed = fit(photo, edges[1] - edges[0], height, centre=centre)
            canvas.paste(self.change(placed, generator_of(request, slot)), (edges[0], 0))
        return canvas

    def fingerprint(self) -> Mapping[str, object]:
        """Name, version of the code and parameters."""
        return {
            "method": self.name,
            "version": self.version,
            "layout": LAYOUT_VERSION,
            "parameters": {field.name: getattr(self, field.name) for field in fields(self)},
        }

    def generate(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        """One RGB image or failure per request, in order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Image.Image | Failure:
        try:
            return self.picture(request)
        except NoImageError as error:
            return error.failure


def generator_of(request: Request, slot: int = 0) -> np.random.Generator:
    """The randomness of one person of a request: Philox, keyed by seed and slot."""
    seeds = np.random.SeedSequence((request.seed % 2**64, slot))
    return np.random.Generator(np.random.Philox(seeds))


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuses a parameter outside [low, high], NaN included.

    Raises:
        ValueError: Naming the parameter, its range and the value.
    """
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value:g}")
