"""Extractors of the face networks by the names of the registry: a network on a kind of crop."""

from typing import Literal

from idbench.metrics.extractors.dinov2 import dinov2_face
from idbench.metrics.extractors.face_crop import CropRule, EveryFace, IBenchCrop
from idbench.metrics.extractors.face_network import FaceNetwork
from idbench.metrics.extractors.fer_vgg19 import fer_vgg19
from idbench.metrics.extractors.hopenet import hopenet
from idbench.metrics.extractors.hsemotion import hsemotion
from idbench.metrics.extractors.resemotenet import resemotenet
from idbench.metrics.weights import WeightStore


def crop_rule(name: str) -> CropRule:
    """The crop rule of a name: "ibench", a detector, or a detector and ".box" for no margin."""
    if name == "ibench":
        return IBenchCrop("mtcnn_native")
    detector, _, box = name.partition(".")
    return EveryFace(detector, margin=None) if box else EveryFace(detector)


def face_network(
    store: WeightStore, *, network: str, crop: str, device: str, dtype: str
) -> FaceNetwork:
    """The extractor `<network>.<crop>`.

    Raises:
        LookupError: If the network is unknown.
        MissingWeightsError: If its weights are absent.
    """
    rule = crop_rule(crop)
    match network:
        case "hopenet":
            return hopenet(store, rule, device=device, dtype=dtype)
        case "fer-vgg19":
            way: Literal["ibench", "strict"] = "ibench" if crop == "ibench" else "strict"
            return fer_vgg19(store, rule, preprocessing=way, device=device, dtype=dtype)
        case "resemotenet":
            return resemotenet(store, rule, device=device, dtype=dtype)
        case "hsemotion":
            return hsemotion(store, rule, device=device, dtype=dtype)
        case "dinov2_base" | "dinov2_small":
            return dinov2_face(store, network, rule, device=device, dtype=dtype)
    raise LookupError(f"unknown face network {network!r}")
