"""Where the subject of an image is: Grounding DINO finds it by its name, SAM cuts it out.

Liu et al. (arXiv 2303.05499) and Kirillov et al. (arXiv 2304.02643), through transformers from
folders as Hugging Face publishes them; the segmentation that FlexIP names.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import (
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    SamModel,
    SamProcessor,
)

from idbench.metrics.extractors.checkpoint import CheckpointError
from idbench.metrics.extractors.precision import exact_inference

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Segmenter = Callable[[Pixels, str], Mask | None]

BOX_THRESHOLD = 0.35
TEXT_THRESHOLD = 0.25


class GroundedSam:
    """Masks of subjects named by a word; loaded on first use.

    Args:
        detector: Folder of Grounding DINO.
        segmenter: Folder of SAM.
        device: Where both run.
    """

    def __init__(self, detector: Path, segmenter: Path, *, device: str = "cpu") -> None:
        """Keeps the arguments; nothing is loaded."""
        self._detector_folder, self._segmenter_folder = detector, segmenter
        self._device = torch.device(device)
        self._loaded: tuple[Any, Any, Any, Any] | None = None

    def release(self) -> None:
        """Frees both networks."""
        self._loaded = None

    def __call__(self, image: Pixels, subject: str) -> Mask | None:
        """The mask, `height width`, of the surest detection of the subject; None without one."""
        detector, detector_input, sam, sam_input = self._networks()
        picture = Image.fromarray(image)
        with exact_inference():
            asked = detector_input(
                images=picture, text=f"{subject.lower().rstrip('.')}.", return_tensors="pt"
            ).to(self._device)
            found = detector_input.post_process_grounded_object_detection(
                detector(**asked),
                asked["input_ids"],
                threshold=BOX_THRESHOLD,
                text_threshold=TEXT_THRESHOLD,
                target_sizes=[image.shape[:2]],
            )[0]
            if not len(found["scores"]):
                return None
            box = found["boxes"][int(found["scores"].argmax())].tolist()
            prepared = sam_input(picture, input_boxes=[[box]], return_tensors="pt").to(self._device)
            cut = sam(
                pixel_values=prepared["pixel_values"],
                input_boxes=prepared["input_boxes"].float(),
                multimask_output=True,
            )
            masks = sam_input.image_processor.post_process_masks(
                cut.pred_masks.cpu(),
                prepared["original_sizes"].cpu(),
                prepared["reshaped_input_sizes"].cpu(),
            )[0][0]
            best = int(cut.iou_scores[0, 0].argmax())
        mask: Mask = masks[best].numpy().astype(bool)
        return mask if mask.any() else None

    def _networks(self) -> tuple[Any, Any, Any, Any]:
        if self._loaded is None:
            self._loaded = (
                self._model(GroundingDinoForObjectDetection, self._detector_folder),
                GroundingDinoProcessor.from_pretrained(
                    self._detector_folder, local_files_only=True
                ),
                self._model(SamModel, self._segmenter_folder),
                SamProcessor.from_pretrained(self._segmenter_folder, local_files_only=True),
            )
        return self._loaded

    def _model(self, kind: Any, folder: Path) -> Any:
        model, told = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        # Older folders hold the positions 0, 1, 2, ... as a buffer, which is computed now.
        told["unexpected_keys"] = {
            key for key in told["unexpected_keys"] if not key.endswith("position_ids")
        }
        faults = {
            name: sorted(map(str, told[name]))
            for name in ("missing_keys", "unexpected_keys", "mismatched_keys")
            if told[name]
        }
        if faults:
            raise CheckpointError(f"{folder} does not fit {kind.__name__}: {faults}")
        return cast(Any, model).eval().requires_grad_(False).to(self._device)
