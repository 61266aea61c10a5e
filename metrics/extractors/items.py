"""What an extractor takes out of an item, or an error that says what is absent."""

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.protocol import Features, Item


def image_of(item: Item) -> NDArray[np.uint8]:
    """The image of an item.

    Raises:
        ValueError: If it has none.
    """
    if item.image is None:
        raise ValueError("this extractor reads images, got an item without one")
    return item.image


def text_of(item: Item) -> str:
    """The text of an item.

    Raises:
        ValueError: If it has none.
    """
    if item.text is None:
        raise ValueError("this extractor reads texts, got an item without one")
    return item.text


def features_of(item: Item, extractor: str) -> Features:
    """What another extractor found in the item.

    Raises:
        ValueError: If that extractor was not run on it.
    """
    if extractor not in item.features:
        raise ValueError(
            f"this extractor needs the features of {extractor!r}, got {sorted(item.features)}"
        )
    return item.features[extractor]
