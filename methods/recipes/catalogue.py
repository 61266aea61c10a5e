"""The recipes that come with the package, and those in files of the user's own."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from idbench.methods.protocol import MethodInfo

PACKAGE = "idbench.methods.recipes"
TARGET = f"{PACKAGE}.method:DiffusersMethod"
PROGRAM_TARGET = f"{PACKAGE}.program_method:ProgramMethod"

# Each is diffusers/<name>.yaml.
RECIPES: tuple[str, ...] = (
    "sd15",
    "sdxl",
    "ip-adapter-sd15",
    "ip-adapter-sdxl",
    "ip-adapter-plus-sd15",
    "ip-adapter-plus-sdxl",
    "ip-adapter-plus-face-sd15",
    "ip-adapter-plus-face-sdxl",
    "ip-adapter-faceid-sd15",
    "ip-adapter-faceid-sdxl",
    "ip-adapter-faceid-plus-sd15",
    "ip-adapter-faceid-plusv2-sd15",
    "ip-adapter-faceid-plusv2-sdxl",
    "ip-adapter-flux",
    "instantid",
    "photomaker-v2",
    "infiniteyou-aes",
    "infiniteyou-sim",
    "flux-kontext",
    "flux-redux",
    "flux2",
    "qwen-image-edit",
    "qwen-image-edit-plus",
    "instruct-pix2pix",
    "omnigen",
)
# Methods of others, each programs/<name>.yaml.
PROGRAMS: tuple[str, ...] = (
    "pulid-sdxl",
    "dreamo",
    "uno",
    "umo",
    "masterweaver",
    "fastcomposer",
    "face-diffuser",
    "uniportrait",
    "omg-instantid",
    "storymaker",
    "blip-diffusion",
    "elite",
    "moma",
    "ssr-encoder",
    "ip-adapter-instruct",
    "lambda-eclipse",
    "disenvisioner",
    "facedancer",
    "diffswap",
    "face-adapter",
    "diffbir",
    "cscs",
    "reface",
    "icedit",
    "bagel",
    "prompt-to-prompt",
    "null-text-inversion",
)
# Names among all methods, where they are not "diffusers:" and that of the recipe: base models, and
# methods that diffusers has no pipeline for, so that parts of them are here.
NAMES = {
    "sd15": "base:sd15",
    "sdxl": "base:sdxl",
    "instantid": "instantid",
    "photomaker-v2": "photomaker-v2",
    "infiniteyou-aes": "infiniteyou-aes",
    "infiniteyou-sim": "infiniteyou-sim",
}
NATIVE = ("instantid", "photomaker-v2", "infiniteyou-aes", "infiniteyou-sim")


def recipe_text(name: str) -> tuple[str, str]:
    """The text of a recipe and what messages call it.

    Args:
        name: One of `RECIPES`, or a path that ends in .yaml.

    Raises:
        LookupError: If there is no such recipe; the message lists the known ones.
        FileNotFoundError: If there is no such file.
    """
    return _text(name, "diffusers", RECIPES)


def program_text(name: str) -> tuple[str, str]:
    """The text of a recipe of a program and what messages call it.

    Args:
        name: One of `PROGRAMS`, or a path that ends in .yaml.

    Raises:
        LookupError: If there is no such recipe; the message lists the known ones.
        FileNotFoundError: If there is no such file.
    """
    return _text(name, "programs", PROGRAMS)


def _text(name: str, folder: str, known: tuple[str, ...]) -> tuple[str, str]:
    if name in known:
        return files(PACKAGE).joinpath(folder, f"{name}.yaml").read_text("utf-8"), name
    if not name.endswith((".yaml", ".yml")):
        raise LookupError(
            f"unknown recipe {name!r}; known: {', '.join(known)}; or the path of a YAML file"
        )
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe {path}")
    return path.read_text("utf-8"), str(path)


@cache
def recipe_infos() -> tuple[MethodInfo, ...]:
    """What `idbench list methods` shows of the recipes that come with the package."""
    found = []
    for name in RECIPES:
        document = yaml.load(recipe_text(name)[0], Loader=_LOADER)
        found.append(_info(NAMES.get(name, f"diffusers:{name}"), name, document))
    for name in PROGRAMS:
        found.append(_program_info(name, yaml.load(program_text(name)[0], Loader=_LOADER)))
    return tuple(found)


def _info(name: str, recipe: str, document: dict[str, Any]) -> MethodInfo:
    return MethodInfo(
        name=name,
        target=TARGET,
        summary=document["summary"],
        kinds=tuple(document["kinds"]),
        base=document["base"],
        licence=document["licence"],
        extras=("methods",),
        route="native" if recipe in NATIVE else "recipe",
        rows=tuple(document.get("rows", ())),
        reason=document.get("notes", ""),
        needs=tuple(
            f"{entry['path']}/{pattern}"
            for entry in document["weights"].values()
            for pattern in entry["files"]
        ),
        given=(("recipe", recipe),),
    )


def _program_info(name: str, document: dict[str, Any]) -> MethodInfo:
    return MethodInfo(
        name=name,
        target=PROGRAM_TARGET,
        summary=document["summary"],
        kinds=tuple(document["kinds"]),
        base=document.get("base", ""),
        licence=document["licence"],
        route="command",
        rows=tuple(document.get("rows", ())),
        reason=document["reason"],
        given=(("recipe", name),),
    )


# libyaml's parser where PyYAML was built with it: a list of methods should cost nothing.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
