"""The networks of the published metrics as rows of the registry's table."""

from collections.abc import Mapping

from idbench.metrics.extractor_entry import ExtractorEntry

_HERE = "idbench.metrics.extractors"
_TORCH = ("torch", "torchvision")
_ONNX = ("onnxruntime", "cv2")


def _pack(pack: str) -> ExtractorEntry:
    return ExtractorEntry(
        target=f"{_HERE}.insightface:InsightFace",
        packages=_ONNX,
        extra="metrics",
        weights=(pack,),
        arguments={"pack": pack},
    )


def _face(network: str, crop: str, key: str) -> ExtractorEntry:
    detector = "mtcnn_native" if crop == "ibench" else crop.partition(".")[0]
    return ExtractorEntry(
        target=f"{_HERE}.published:face_network",
        needs=(detector,),
        packages=(*_TORCH, "timm", "transformers"),
        extra="metrics",
        weights=(key,),
        arguments={"network": network, "crop": crop},
    )


def _clip(target: str, model: str, **arguments: object) -> ExtractorEntry:
    return ExtractorEntry(
        target=f"{_HERE}.{target}",
        packages=(*_TORCH, "open_clip"),
        extra="metrics",
        weights=(model,),
        arguments={"model": model, **arguments},
    )


def _clip_model(model: str) -> dict[str, ExtractorEntry]:
    return {
        f"{model}.image": _clip("clip_image:clip_image", model),
        f"{model}.text": _clip("clip_text:ClipText", model),
        f"{model}.text.windows": _clip("clip_text:ClipText", model, windows=True),
    }


def _aesthetic(head: str, clip: str) -> ExtractorEntry:
    return ExtractorEntry(
        target=f"{_HERE}.aesthetic:Aesthetic",
        needs=(clip,),
        packages=_TORCH,
        extra="metrics",
        weights=(head,),
        arguments={"head": head, "clip": clip},
    )


def _image(target: str, package: str, model: str) -> ExtractorEntry:
    return ExtractorEntry(
        target=f"{_HERE}.{target}",
        packages=(*_TORCH, package),
        extra="metrics",
        weights=(model,),
        arguments={"model": model},
    )


def _musiq(model: str, preprocessing: str) -> ExtractorEntry:
    return ExtractorEntry(
        target=f"{_HERE}.musiq:musiq",
        packages=("torch", "pyiqa"),
        extra="iqa",
        weights=(model,),
        arguments={"model": model, "preprocessing": preprocessing},
    )


EXTRACTORS: Mapping[str, ExtractorEntry] = {
    "antelopev2": _pack("antelopev2"),
    "buffalo_l": _pack("buffalo_l"),
    "antelopev2.pose": ExtractorEntry(
        target=f"{_HERE}.insightface_pose:InsightFacePose",
        needs=("antelopev2",),
        packages=_ONNX,
        extra="metrics",
        missing_weights=f"{_HERE}.packaged:missing_mean_face",
        weights=("antelopev2",),
    ),
    "facenet.mtcnn.box": ExtractorEntry(
        target=f"{_HERE}.facenet:facenet",
        needs=("mtcnn",),
        packages=(*_TORCH, "cv2"),
        extra="metrics",
        weights=("facenet",),
    ),
    "hopenet.ibench": _face("hopenet", "ibench", "hopenet"),
    "hopenet.antelopev2": _face("hopenet", "antelopev2", "hopenet"),
    "fer-vgg19.ibench": _face("fer-vgg19", "ibench", "fer_vgg19"),
    "fer-vgg19.antelopev2": _face("fer-vgg19", "antelopev2", "fer_vgg19"),
    "resemotenet.antelopev2.box": _face("resemotenet", "antelopev2.box", "resemotenet"),
    "hsemotion.antelopev2": _face("hsemotion", "antelopev2", "hsemotion"),
    "dinov2_base.ibench": _face("dinov2_base", "ibench", "dinov2_base"),
    "dinov2_base.antelopev2": _face("dinov2_base", "antelopev2", "dinov2_base"),
    **_clip_model("clip_l14"),
    "clip_l14.image.ibench": _clip("clip_image:clip_image", "clip_l14", preprocessing="ibench"),
    "clip_l14.image.aesthetic": _clip(
        "clip_image:clip_image", "clip_l14", preprocessing="aesthetic"
    ),
    **_clip_model("clip_b32"),
    **_clip_model("clip_b16"),
    **_clip_model("clip_h14"),
    "clip_iqa": ExtractorEntry(
        target=f"{_HERE}.clip_iqa:ClipIQA",
        packages=(*_TORCH, "open_clip"),
        extra="metrics",
        weights=("clip_rn50",),
    ),
    "aes_linear": _aesthetic("aes_linear", "clip_l14.image"),
    "aes_linear.aesthetic": _aesthetic("aes_linear", "clip_l14.image.aesthetic"),
    "aes_mlp": _aesthetic("aes_mlp", "clip_l14.image"),
    "dinov2_base.image": _image("dinov2:dinov2_image", "transformers", "dinov2_base"),
    "dinov2_small.image": _image("dinov2:dinov2_image", "transformers", "dinov2_small"),
    "dino_vits16.image": _image("dino:dino_image", "timm", "dino_vits16"),
    "dino_vits8.image": _image("dino:dino_image", "timm", "dino_vits8"),
    "dreamsim": ExtractorEntry(
        target=f"{_HERE}.dreamsim:dreamsim",
        packages=(*_TORCH, "timm"),
        extra="metrics",
        weights=("dreamsim", "dino_vitb16"),
    ),
    "inception": ExtractorEntry(
        target=f"{_HERE}.inception:inception",
        packages=_TORCH,
        extra="metrics",
        weights=("inception",),
    ),
    "musiq_spaq": _musiq("musiq_spaq", "strict"),
    "musiq_spaq.ibench": _musiq("musiq_spaq", "ibench"),
    "musiq_koniq": _musiq("musiq_koniq", "strict"),
    "subject": ExtractorEntry(
        target=f"{_HERE}.subject_embedding:SubjectEmbedding",
        packages=(*_TORCH, "open_clip", "timm", "transformers"),
        extra="metrics",
        weights=("clip_b32", "dino_vits8", "grounding_dino", "sam_vit_base"),
    ),
    "subject.masks": ExtractorEntry(
        target=f"{_HERE}.subject_embedding:SubjectEmbedding",
        packages=(*_TORCH, "open_clip", "timm"),
        extra="metrics",
        weights=("clip_b32", "dino_vits8"),
        arguments={"masks": "imported"},
    ),
    "sharpness": ExtractorEntry(
        target=f"{_HERE}.sharpness:Sharpness",
        extra="embedded",
    ),
    "image_reward": ExtractorEntry(
        target=f"{_HERE}.image_reward:ImageReward",
        packages=(*_TORCH, "timm", "transformers"),
        extra="metrics",
        weights=("imagereward",),
    ),
}
