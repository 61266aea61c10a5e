"""From people to identity tokens: the face encoder, then the IMR where a face is to change."""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

import torch
from PIL import Image
from torch import Tensor

from idbench.methods.common.prompt_encoder import PromptEncoder
from idbench.methods.dynamicid.config import DynamicIDConfig
from idbench.methods.dynamicid.encoder import FaceEncoder, FaceFeatures
from idbench.methods.dynamicid.expression import ExpressionClassifier
from idbench.methods.dynamicid.faces import FaceBox, NoFaceError
from idbench.methods.dynamicid.keypoints import KeypointEncoder, draw_landmarks, landmark_tensor
from idbench.methods.dynamicid.motion import source_face_prompt
from idbench.methods.dynamicid.person import Person
from idbench.methods.dynamicid.reconfigurator import IdentityMotionReconfigurator

REMEMBERED_REFERENCES = 128


@dataclass(frozen=True, slots=True)
class EncodedPerson:
    """Identity tokens (1, 4, width), and the (source, target) prompts of what the IMR did."""

    tokens: Tensor
    face_prompts: tuple[str, str] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Editing:
    """The networks that change a face; `expression` is needed only to describe references."""

    reconfigurator: IdentityMotionReconfigurator
    keypoint_encoder: KeypointEncoder
    expression: ExpressionClassifier | None = None


class IdentityEncoder:
    """Encodes people. References are remembered by content: they give the same every time."""

    def __init__(
        self,
        face_encoder: FaceEncoder,
        prompts: PromptEncoder,
        editing: Editing | None,
        config: DynamicIDConfig,
    ) -> None:
        """Keeps the networks; `editing` may be absent where no face is changed."""
        self.face_encoder = face_encoder
        self.prompts = prompts
        self.editing = editing
        self.config = config
        self._features: OrderedDict[tuple[str, FaceBox | None], FaceFeatures] = OrderedDict()

    @property
    def tokens_per_person(self) -> int:
        """How many identity tokens a person has."""
        return self.face_encoder.projection.config.num_tokens

    def features(self, picture: Image.Image, face_box: FaceBox | None = None) -> FaceFeatures:
        """What the frozen extractors see in a reference; computed once for equal pictures.

        Raises:
            NoFaceError: If there is no face and that is not allowed.
        """
        rgb = picture.convert("RGB")
        key = (f"{rgb.size}{sha256(rgb.tobytes()).hexdigest()}", face_box)
        if key not in self._features:
            self._features[key] = self.face_encoder.features(rgb, face_box)
            if len(self._features) > REMEMBERED_REFERENCES:
                self._features.popitem(last=False)
        self._features.move_to_end(key)
        return self._features[key]

    @torch.no_grad()
    def encode(self, person: Person) -> EncodedPerson:
        """References to identity tokens, moved to the face prompt by the IMR if there is one.

        With several references each is edited from its own pose and expression, and the tokens
        are averaged.

        Raises:
            NoFaceError: If a reference has no face.
            ValueError: If a face is to be edited and the networks for it are absent.
        """
        boxes = person.face_boxes or (None,) * len(person.references)
        seen = [
            self.features(picture, box)
            for picture, box in zip(person.references, boxes, strict=True)
        ]
        if len(seen) > 1 and self.config.multi_reference == "embed_mean":
            seen = [self.face_encoder.joined(seen)]
        if person.face_prompt is None or not self.config.use_imr:
            tokens = torch.stack([self.face_encoder.tokens(one) for one in seen]).mean(dim=0)
            return EncodedPerson(tokens, None)
        moved = [self.reconfigure(one, person) for one in seen]
        tokens = torch.stack([one.tokens for one in moved]).mean(dim=0)
        return EncodedPerson(tokens, moved[0].face_prompts)

    @torch.no_grad()
    def reconfigure(self, features: FaceFeatures, person: Person) -> EncodedPerson:
        """One reference in the face that the person asks for: equation 6.

        Target landmarks are the source's own unless given: the orientation then comes from the
        words alone, as in the official code.

        Raises:
            NoFaceError: If the reference has no face.
            ValueError: If the networks that edit are absent or no face prompt is given.
        """
        if self.editing is None or person.face_prompt is None:
            raise ValueError(
                "editing a face needs a face prompt, the identity-motion reconfigurator and its "
                "key point encoder; load them or set use_imr=false"
            )
        if features.face is None:
            raise NoFaceError("a face without landmarks cannot be edited; none was found")
        prompts = (person.source_face_prompt or self.describe(features), person.face_prompt)
        source, target = features.face.landmarks, person.target_landmarks
        maps = [draw_landmarks(points) for points in (source, source if target is None else target)]
        imr = self.editing.reconfigurator
        device = next(imr.parameters()).device
        landmarks = self.editing.keypoint_encoder(
            torch.stack([landmark_tensor(image) for image in maps]).to(device)
        ).flatten(1)
        texts = self.prompts.features(prompts).to(device)
        tokens = self.face_encoder.tokens(features).to(device)
        moved: Tensor = imr(tokens, landmarks[:1], landmarks[1:], texts[:1], texts[1:])
        return EncodedPerson(moved, prompts)

    def describe(self, features: FaceFeatures) -> str:
        """The source face prompt of a reference: its expression and pose in words.

        Raises:
            NoFaceError: If the reference has no face.
            ValueError: If the expression is to be classified and there is no classifier.
        """
        if features.face is None:
            raise NoFaceError("a picture without a face cannot be described")
        expression: str = self.config.source_expression
        if expression == "classify":
            if self.editing is None or self.editing.expression is None:
                raise ValueError(
                    "source_expression is 'classify' and no expression classifier is loaded; load "
                    "ResEmoteNet or name the expression"
                )
            expression = self.editing.expression(features.picture, features.face.box)
        return source_face_prompt(expression, features.face.pitch, features.face.yaw)
