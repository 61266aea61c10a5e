"""The settings of DynamicID, each default with its source."""

from dataclasses import dataclass
from typing import Literal

from idbench.methods.common.latent_sizes import check_size

FaceCrop = Literal["square", "none"]
FaceChoice = Literal["largest", "first"]
MultiReference = Literal["token_mean", "embed_mean"]
SourceExpression = Literal[
    "classify", "happy", "surprise", "sad", "anger", "disgust", "fear", "neutral"
]


@dataclass(frozen=True, kw_only=True)
class DynamicIDConfig:
    """What a user may set; everything here moves pixels and is part of the fingerprint.

    Attributes:
        num_inference_steps: DDIM steps (section 4.1: 50).
        guidance_scale: Classifier-free guidance (section 4.1: 5).
        negative_prompt: Empty, the paper names none; the official scripts use a long one.
        height: Of images whose request names none, a multiple of 8; 512 is the size of SD 1.5, the
            official scripts use 768 and, for three people, 1024.
        width: As `height`.
        alpha: Share of the steps with the layout term (figure 12: 0.24; the code's default is 3
            steps).
        beta: Strength of the layout term (figure 12: 2; the code's default is 4).
        gate_threshold: Gates below it are 0 (official code: 0.3; the paper has none, which is 0).
        id_scale: Factor on what identity adds (official code: 1).
        activate_query: The gate. Off is plain decoupled cross-attention (the code's default).
        use_imr: Edit expression and orientation where a request asks for them; off is the row
            "w/o IMR" of table 3.
        face_crop: "square" crops references to `face_crop_factor` times the face box; "none"
            gives the whole picture to both extractors, as the official code does.
        face_crop_factor: Side of the crop over the larger side of the face box; our choice.
        face_choice: "largest" face of a reference, or the "first" that the detector returns, as
            the official code takes it.
        multi_reference: How several pictures of one person are joined: the mean of their tokens, or
            the tokens of the mean ArcFace vector with the CLIP features of the surest face.
        source_expression: The expression of the reference for the IMR's source prompt: "classify"
            asks ResEmoteNet, as the official code does; a word of its seven classes is taken as
            it is and needs no classifier.
        allow_missing_face: A reference without a face gives a zero vector, as in the official code,
            instead of a failure.
        legacy_rgb_embedding: Feed RGB to the embedder and the pose network, which expect BGR, as
            the official code does; the released weights were presumably trained so.
        legacy_full_frame_layout: One person without a box gets the whole frame as box, as in the
            official code, so that the early gate is w + beta everywhere.
    """

    num_inference_steps: int = 50
    guidance_scale: float = 5.0
    negative_prompt: str = ""
    height: int = 512
    width: int = 512
    alpha: float = 0.24
    beta: float = 2.0
    gate_threshold: float = 0.3
    id_scale: float = 1.0
    activate_query: bool = True
    use_imr: bool = True
    face_crop: FaceCrop = "square"
    face_crop_factor: float = 1.6
    face_choice: FaceChoice = "largest"
    multi_reference: MultiReference = "token_mean"
    source_expression: SourceExpression = "classify"
    allow_missing_face: bool = False
    legacy_rgb_embedding: bool = False
    legacy_full_frame_layout: bool = False

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        if self.num_inference_steps < 1:
            raise ValueError(
                f"num_inference_steps must be at least 1, got {self.num_inference_steps}"
            )
        for name, low, high in (
            ("guidance_scale", 1.0, 100.0),
            ("alpha", 0.0, 1.0),
            ("beta", 0.0, 100.0),
            ("gate_threshold", 0.0, 1.0),
            ("id_scale", 0.0, 10.0),
            ("face_crop_factor", 1.0, 10.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value:g}")
        check_size(self.height, self.width)
