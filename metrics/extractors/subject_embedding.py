"""CLIP and DINO embeddings of the subject of an image alone, on white.

FlexIP compares images after segmentation, so that a similar background does not count as a kept
subject (its specification, section 9).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.extractors.clip_image import encode_image
from idbench.metrics.extractors.clip_network import clip_network
from idbench.metrics.extractors.dino import load_dino
from idbench.metrics.extractors.grounded_sam import GroundedSam, Segmenter
from idbench.metrics.extractors.items import image_of
from idbench.metrics.extractors.network import Network
from idbench.metrics.extractors.preprocess import clip_pil, imagenet_pil
from idbench.metrics.protocol import Features, Item, Missing
from idbench.metrics.weights import WeightStore

CLIP, DINO = "clip_b32", "dino_vits8"
WHITE = 255


def on_white(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image where the mask is, white elsewhere."""
    return np.where(mask[:, :, None], image, np.uint8(WHITE)).astype(np.uint8)


class SubjectEmbedding:
    """Features of an image and its subject, which a word names or a mask shows.

    - `clip` (512,), `dino` (384,): embeddings of the subject on white, not normalised; of the whole
      image where the subject was not found.
    - `found` (): whether it was.

    Missing: `no_subject` where the case has no word for it; `no_mask` where masks are imported and
    the image has none.

    Args:
        store: Where the weights lie.
        device: Where the networks run.
        dtype: Arithmetic of CLIP and DINO; the segmentation computes in float32.
        masks: "segmented" finds the subject by its word and is called "subject"; "imported" takes
            masks that people made and is called "subject.masks".
        segmenter: What finds a mask; Grounding DINO and SAM by default.
    """

    needs: tuple[str, ...] = ()
    reads: Literal["image_subject", "image_mask"]
    version = 1

    def __init__(
        self,
        store: WeightStore,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        masks: Literal["segmented", "imported"] = "segmented",
        segmenter: Segmenter | None = None,
    ) -> None:
        """Finds the weights; they are read by the first call.

        Raises:
            MissingWeightsError: If a file is absent.
        """
        keys = [CLIP, DINO]
        self.name = "subject" if masks == "segmented" else "subject.masks"
        self.reads = "image_subject" if masks == "segmented" else "image_mask"
        if segmenter is None and masks == "segmented":
            detector = store.locate("grounding_dino", "config.json").parent
            sam = store.locate("sam_vit_base", "config.json").parent
            segmenter = GroundedSam(detector, sam, device=device)
            keys += ["grounding_dino", "sam_vit_base"]
        self._segmenter = segmenter
        self._digests = {
            f"{key}/{file}": digest for key in keys for file, digest in store.digests(key).items()
        }
        dino = store.locate(DINO)
        self._clip = clip_network(store, CLIP, device=device, dtype=dtype, batch_size=None)
        self._dino = Network(lambda: load_dino(dino), device=device, dtype=dtype)

    def fingerprint(self) -> Mapping[str, object]:
        """Version, weights, background and arithmetic."""
        return {
            "name": self.name,
            "version": self.version,
            "weights": self._digests,
            "background": "white",
            "dtype": self._clip.dtype_name,
        }

    def release(self) -> None:
        """Frees the networks."""
        self._clip.release()
        self._dino.release()
        if isinstance(self._segmenter, GroundedSam):
            self._segmenter.release()

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """The embeddings of each subject."""
        cut: list[NDArray[np.uint8]] = []
        found: list[bool | Missing] = []
        for item in items:
            mask = self._mask(item)
            if isinstance(mask, Missing):
                found.append(mask)
                continue
            image = image_of(item)
            cut.append(image if mask is None else on_white(image, mask))
            found.append(mask is not None)
        clip = iter(self._clip([clip_pil(image) for image in cut], encode_image))
        dino = iter(self._dino([imagenet_pil(image) for image in cut]))
        return [
            state
            if isinstance(state, Missing)
            else {
                "clip": next(clip).numpy(),
                "dino": next(dino).numpy(),
                "found": np.array(state),
            }
            for state in found
        ]

    def _mask(self, item: Item) -> NDArray[np.bool_] | Missing | None:
        if self._segmenter is None:
            if item.mask is None:
                return Missing("no_mask", "register one with `idbench data masks IMAGES MASKS`")
            return item.mask
        if not item.text:
            return Missing("no_subject", "the case has no word for what to look for")
        return self._segmenter(image_of(item), item.text)
