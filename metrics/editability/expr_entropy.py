"""Entropy of expressions: how many different expressions a set of generated faces shows."""

import math
from collections.abc import Mapping
from typing import Self

import numpy as np

from idbench.metrics.distributions import entropy
from idbench.metrics.face_backends import ANTELOPEV2
from idbench.metrics.faces import match_faces
from idbench.metrics.protocol import MetricInfo, Missing, Observation

_FACES = "fer-vgg19.antelopev2"
_CLASSES = 7


class ExpressionCounts:
    """How often each expression class was seen."""

    def __init__(self) -> None:
        """None was seen."""
        self._counts = np.zeros(_CLASSES)

    def update(self, observation: Observation) -> None:
        """Counts the class of the face that FaceSim compares."""
        match = match_faces(observation, ANTELOPEV2)
        logits = observation.get("generated", _FACES)["output"][match.best]
        self._counts[int(np.argmax(logits))] += 1

    def merge(self, other: Self) -> None:
        """Adds the counts of another state."""
        self._counts += other._counts

    def compute(self) -> Mapping[str, float | Missing]:
        """Entropy of the counts in nats."""
        total = self._counts.sum()
        if not total:
            return {"": Missing("no_face", "no image shows a face")}
        return {"": entropy(self._counts / total)}


class ExprEntropy:
    """Entropy in nats, at most ln 7, of the expression classes of a set of generated faces.

    0 where every face has the same expression, whatever the prompts asked for.
    """

    version = 1
    needs = ANTELOPEV2.needs(generated=(_FACES,))
    info = MetricInfo(
        name="expr_entropy",
        protocol="strict",
        backend="fer-vgg19",
        summary="entropy of the expression classes over all generated faces",
        unit="nats",
        higher_is_better=True,
        bounds=(0.0, math.log(_CLASSES)),
        axis="editability",
        comparable_to_published=False,
    )

    def start(self) -> ExpressionCounts:
        """A state that saw nothing."""
        return ExpressionCounts()
