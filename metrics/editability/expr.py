"""Expr: the probability of the expression that the prompt asks for."""

from collections.abc import Mapping

import numpy as np

from idbench.metrics.distributions import softmax
from idbench.metrics.editability.asked_faces import faces_asked_for
from idbench.metrics.face_backends import ANTELOPEV2
from idbench.metrics.protocol import (
    Metric,
    MetricInfo,
    Missing,
    MissingValueError,
    Observation,
)

# The words of DynamicID's prompts.
EXPRESSIONS = ("neutral", "happy", "angry", "disgusted", "surprised", "sad", "afraid")

# Those words in the order of each classifier's outputs; None is a class that no prompt asks for.
ORDERS: Mapping[str, tuple[str | None, ...]] = {
    "resemotenet": ("happy", "surprised", "sad", "angry", "disgusted", "afraid", "neutral"),
    "fer-vgg19": ("angry", "disgusted", "afraid", "happy", "sad", "surprised", "neutral"),
    "hsemotion": (
        "angry",
        None,
        "disgusted",
        "afraid",
        "happy",
        "neutral",
        "sad",
        "surprised",
    ),
}


class Expr:
    """Mean probability of the prompted expressions on the faces of the people, in [0, 1].

    Expr of DynamicID: softmax over the seven expressions, chance 1/7. HSEmotion has an eighth,
    contempt, which is left out before the softmax. Variants: "" the mean over the people whose face
    was found; `penalised` a person without a face counts 0.

    Missing: `not_asked`, `unknown_expression`, `no_reference_face`; `no_face` for "" only.
    """

    version = 1

    def __init__(self, classifier: str, papers: tuple[str, ...] = ()) -> None:
        """Reads the logits of a classifier of `ORDERS` on antelopev2's faces."""
        self._order = ORDERS[classifier]
        suffix = ".box" if classifier == "resemotenet" else ""
        self._extractor = f"{classifier}.{ANTELOPEV2.detector}{suffix}"
        self.needs = ANTELOPEV2.needs(generated=(self._extractor,))
        self.info = MetricInfo(
            name="expr",
            protocol="strict",
            backend=classifier,
            summary="probability of the prompted expression on the generated face",
            unit="probability",
            higher_is_better=True,
            bounds=(0.0, 1.0),
            axis="editability",
            variants=("", "penalised"),
            papers=papers,
            comparable_to_published=bool(papers),
            chance=1 / 7,
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Both means."""
        values: list[float | None] = []
        for subject, face in faces_asked_for(observation, ANTELOPEV2, "expression"):
            if subject.expression not in EXPRESSIONS:
                raise MissingValueError(
                    "unknown_expression",
                    f"{subject.expression!r} is none of {', '.join(EXPRESSIONS)}",
                )
            if face is None:
                values.append(None)
                continue
            logits = observation.get("generated", self._extractor)["output"][face]
            kept = [place for place, word in enumerate(self._order) if word is not None]
            probabilities = softmax(np.asarray(logits)[kept])
            words = [self._order[place] for place in kept]
            values.append(float(probabilities[words.index(subject.expression)]))
        return means(values)


def means(values: list[float | None]) -> Mapping[str, float | Missing]:
    """Mean over what was found, and `penalised` with 0 for what was not."""
    found = [value for value in values if value is not None]
    lost = Missing("no_face", f"{len(values)} people, none with a face")
    return {
        "": float(np.mean(found)) if found else lost,
        "penalised": sum(found) / len(values),
    }


def expr_resemotenet() -> Metric:
    """Expr with the classifier that DynamicID cites."""
    return Expr("resemotenet", papers=("DynamicID",))


def expr_fer_vgg19() -> Metric:
    """Expr with IBench's classifier, on its own input."""
    return Expr("fer-vgg19")


def expr_hsemotion() -> Metric:
    """Expr with HSEmotion."""
    return Expr("hsemotion")
