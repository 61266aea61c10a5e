"""Where weights come from: what several methods read, and what is said when a file is absent."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where one set of files comes from.

    `path` is its place in the weights folder. `sha256` has the digests that are published, by
    file name; where none is, the digest goes into every record all the same. `route` says how to
    get the files; {path}, {folder} and {repository} in it are filled in.
    """

    path: str
    repository: str
    revision: str
    licence: str
    route: str
    sha256: Mapping[str, str] = field(default_factory=dict)


class MissingWeightsError(FileNotFoundError):
    """A file of a method is not on this machine; the message says how to get it."""


def how_to_get(key: str, path: Path, source: Source, parameters: Iterable[str]) -> str:
    """What to do about an absent file; `parameters` are those that can name a place."""
    route = source.route.format(path=path, folder=path.parent, repository=source.repository)
    return (
        f"{key} is not at {path}: {route} (licence: {source.licence}); or say where it is with "
        f"{key}=PATH (paths that can be given: {', '.join(parameters)})"
    )


STABLE_DIFFUSION_1_5 = Source(
    path="stable-diffusion-v1-5",
    repository="https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5",
    revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    licence="CreativeML OpenRAIL-M",
    route="hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --revision "
    "451f4fe16113bff5a5d2269ed5ad43b0592e9a14 --local-dir {path} --include 'unet/*.json' "
    "'unet/diffusion_pytorch_model.safetensors' 'vae/*.json' "
    "'vae/diffusion_pytorch_model.safetensors' 'text_encoder/*.json' "
    "'text_encoder/model.safetensors' 'tokenizer/*'",
)

CLIP_VIT_H = Source(
    path="CLIP-ViT-H-14-laion2B-s32B-b79K",
    repository="https://huggingface.co/laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    revision="1c2b8495b28150b8a4922ee1c8edee224c284c0c",
    licence="MIT",
    route="hf download laion/CLIP-ViT-H-14-laion2B-s32B-b79K --revision "
    "1c2b8495b28150b8a4922ee1c8edee224c284c0c --local-dir {path} --include config.json "
    "model.safetensors",
)

FLUX_DEV = Source(
    path="flux-dev",
    repository="https://huggingface.co/black-forest-labs/FLUX.1-dev",
    revision="main",
    licence="FLUX.1 [dev] Non-Commercial License; access is granted on the model's page",
    route="hf download black-forest-labs/FLUX.1-dev --local-dir {path} --exclude '*.png' "
    "flux1-dev.safetensors ae.safetensors",
)
