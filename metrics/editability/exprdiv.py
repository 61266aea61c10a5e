"""Exprdiv: how often the expression class of the generated face is another one."""

from collections.abc import Mapping

import numpy as np

from idbench.metrics.distributions import jensen_shannon, softmax
from idbench.metrics.face_backends import ANTELOPEV2
from idbench.metrics.faces import match_faces
from idbench.metrics.protocol import MetricInfo, Missing, Observation, Role

_FACES = "fer-vgg19.antelopev2"


class ExprdivIBench:
    """1 if the classes of reference and generated image differ, else 0; the mean is the column.

    Exprdiv of IBench: the crop of Posediv, in colour and at its own resolution, seen through ten
    patches of 44 pixels by a network trained on grey faces of 48. A random classifier scores high.

    Missing: `crop_too_small` for a crop with a side below 44, where IBench drops the item.
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {
        "reference": ("fer-vgg19.ibench",),
        "generated": ("fer-vgg19.ibench",),
    }
    info = MetricInfo(
        name="exprdiv",
        protocol="ibench",
        backend="fer-vgg19",
        summary="share of images whose expression class differs from the reference's",
        unit="share",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        axis="editability",
        papers=("EditIDv2",),
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Whether the classes differ."""
        classes = [
            int(np.argmax(observation.get(role, "fer-vgg19.ibench")["output"][0]))
            for role in ("reference", "generated")
        ]
        return {"": float(classes[0] != classes[1])}


class ExprdivStrict:
    """Change of expression between the faces that FaceSim compares, on the classifier's own input.

    Variants: "" 1 if the classes differ, else 0; `js` the Jensen-Shannon divergence of the class
    probabilities in nats, at most ln 2, which also sees changes within a class. Neither says that
    the prompted expression is there: that is `expr`.

    Missing: `no_reference_face`, `no_face`, `several_people`.
    """

    version = 1
    needs = ANTELOPEV2.needs(_FACES)
    info = MetricInfo(
        name="exprdiv",
        protocol="strict",
        backend="fer-vgg19",
        summary="change of the expression class, and of its probabilities",
        unit="share; nats",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        axis="editability",
        variants=("", "js"),
        papers=("EditIDv2",),
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Class change and divergence."""
        match = match_faces(observation, ANTELOPEV2)
        reference = softmax(observation.get("reference", _FACES)["output"][match.reference])
        generated = softmax(observation.get("generated", _FACES)["output"][match.best])
        return {
            "": float(int(reference.argmax()) != int(generated.argmax())),
            "js": jensen_shannon(reference, generated),
        }
