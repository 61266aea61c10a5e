"""CLIP-T: whether the image shows what the prompt says, as far as CLIP reads the prompt."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from idbench.metrics.cosine import cosine
from idbench.metrics.protocol import Metric, MetricInfo, Missing, Observation, Role

WINDOW = 75


def clip_t(
    text: NDArray[np.floating], image: NDArray[np.floating], *, normalise_text: bool = True
) -> float:
    """Dot product of the unit image embedding with the text embedding, made unit or not.

    IBench hands its `truncate` to a parameter that means "normalise": with the shipped True nothing
    changes, with False the value is no cosine.
    """
    if normalise_text:
        return cosine(text, image)
    unit = np.asarray(image, np.float64) / np.linalg.norm(image)
    return float(np.asarray(text, np.float64) @ unit)


def pooled_windows(
    windows: NDArray[np.floating], tokens: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Mean direction of the windows of a prompt, weighted by their numbers of tokens.

    Args:
        windows: Embeddings `k d`.
        tokens: Tokens of each window, `k`; a single empty window has weight 1.
    """
    unit = np.asarray(windows, np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    weights = np.asarray(tokens, np.float64)
    pooled: NDArray[np.float64] = (weights if weights.any() else np.ones_like(weights)) @ unit
    return pooled / np.linalg.norm(pooled)


def scored_share(tokens: int) -> float:
    """Share of the tokens of a prompt that fit into CLIP's 77 positions, in (0, 1]."""
    return min(WINDOW, tokens) / tokens if tokens else 1.0


class ClipTIBench:
    """CLIP-T of IBench: the cosine of the image and of the first 75 tokens of the prompt.

    ViT-L/14 and IBench's tensor preprocessing. All its long prompts have more tokens; the rest is
    never scored (`clip_t@strict` says how much).
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {
        "prompt": ("clip_l14.text",),
        "generated": ("clip_l14.image.ibench",),
    }
    info = MetricInfo(
        name="clip_t",
        protocol="ibench",
        backend="clip-l14",
        summary="CLIP cosine of image and prompt, which is cut off after 75 tokens",
        unit="cosine",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        axis="text",
        papers=("EditIDv2", "FlexID"),
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """The cosine."""
        text = observation.get("prompt", "clip_l14.text")["embedding"]
        image = observation.get("generated", "clip_l14.image.ibench")["output"]
        return {"": clip_t(text, image)}


class ClipTStrict:
    """CLIP cosine of image and prompt, with CLIP's own preprocessing.

    Variants: "" the prompt cut off after 75 tokens, as every paper scores it; `long` the prompt to
    its end, in windows of 75 tokens whose directions are averaged by their lengths; `scored_share`
    the share of the tokens that "" sees.
    """

    version = 1

    def __init__(self, backend: str, model: str, papers: tuple[str, ...] = ()) -> None:
        """Reads image and prompt with the CLIP entry `model` of the weights catalogue."""
        self._text = f"{model}.text.windows"
        self._image = f"{model}.image"
        self.needs: Mapping[Role, tuple[str, ...]] = {
            "prompt": (self._text,),
            "generated": (self._image,),
        }
        self.info = MetricInfo(
            name="clip_t",
            protocol="strict",
            backend=backend,
            summary="CLIP cosine of image and prompt: cut off, to its end, and the share seen",
            unit="cosine",
            higher_is_better=True,
            bounds=(-1.0, 1.0),
            axis="text",
            variants=("", "long", "scored_share"),
            papers=papers,
            comparable_to_published=bool(papers),
        )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """All variants."""
        text = observation.get("prompt", self._text)
        image = observation.get("generated", self._image)["output"]
        long = pooled_windows(text["windows"], text["window_tokens"])
        return {
            "": clip_t(text["embedding"], image),
            "long": clip_t(long, image),
            "scored_share": scored_share(int(text["tokens"])),
        }


class ClipTGain:
    """CLIP-T with the identity minus CLIP-T without it: what the identity costs, in [-2, 2].

    Variants as of `clip_t`. Missing: `no_base`.
    """

    version = 1
    needs: Mapping[Role, tuple[str, ...]] = {
        "prompt": ("clip_l14.text.windows",),
        "generated": ("clip_l14.image",),
        "base": ("clip_l14.image",),
    }
    info = MetricInfo(
        name="clip_t_delta",
        protocol="strict",
        backend="clip-l14",
        summary="CLIP-T with the identity minus CLIP-T of the base image",
        unit="cosine difference",
        higher_is_better=True,
        bounds=(-2.0, 2.0),
        axis="text",
        variants=("", "long"),
        comparable_to_published=False,
    )

    def __call__(self, observation: Observation) -> Mapping[str, float | Missing]:
        """Both differences."""
        text = observation.get("prompt", "clip_l14.text.windows")
        image = observation.get("generated", "clip_l14.image")["output"]
        base = observation.get("base", "clip_l14.image")["output"]
        long = pooled_windows(text["windows"], text["window_tokens"])
        return {
            "": clip_t(text["embedding"], image) - clip_t(text["embedding"], base),
            "long": clip_t(long, image) - clip_t(long, base),
        }


Clip = Literal["clip-l14", "clip-b32", "clip-b16", "clip-h14"]


def clip_t_l14() -> Metric:
    """ViT-L/14, as FastComposer and DynamicID."""
    return ClipTStrict("clip-l14", "clip_l14", papers=("DynamicID", "FlexIP"))


def clip_t_b32() -> Metric:
    """ViT-B/32, as DreamBench++, whose code multiplies by 100."""
    return ClipTStrict("clip-b32", "clip_b32", papers=("DreamBench++",))


def clip_t_b16() -> Metric:
    """ViT-B/16."""
    return ClipTStrict("clip-b16", "clip_b16")


def clip_t_h14() -> Metric:
    """ViT-H/14 of LAION."""
    return ClipTStrict("clip-h14", "clip_h14")
