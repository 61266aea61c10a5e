"""The methods that come with the package, as an explicit table; nothing is found by walking."""

from typing import get_args

from idbench.methods.protocol import Kind, MethodInfo
from idbench.methods.recipes.catalogue import PROGRAM_TARGET
from idbench.methods.recipes.catalogue import TARGET as RECIPE_METHOD

ALL_KINDS: tuple[Kind, ...] = get_args(Kind)

# Methods that take their main argument after a colon, as in "images:DIR": name -> parameter.
PREFIXES = {
    "images": "dir",
    "python": "target",
    "command": "command",
    "http": "target",
    "comfyui": "workflow",
    "diffusers": "recipe",
    "program": "recipe",
}

_PULID_FILES = ("flux-dev", "pulid", "eva-clip", "antelopev2", "facexlib")
_BASELINES = "idbench.methods.baselines"
_WRAPPERS = "idbench.methods.wrappers"

TABLE: tuple[MethodInfo, ...] = (
    MethodInfo(
        name="copy",
        target=f"{_BASELINES}.copying:Copy",
        summary="the reference as it is: all preservation, no editability",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="crop",
        target=f"{_BASELINES}.geometry:Crop",
        summary="the reference without its margins, zoomed to the same size",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="mirror",
        target=f"{_BASELINES}.geometry:Mirror",
        summary="the reference mirrored: yaw changes sign, the person stays",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="rotate",
        target=f"{_BASELINES}.geometry:Rotate",
        summary="the reference rotated in its plane: roll changes, the person stays",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="colour",
        target=f"{_BASELINES}.appearance:Colour",
        summary="the reference with other brightness, contrast and saturation",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="blur",
        target=f"{_BASELINES}.appearance:Blur",
        summary="the reference blurred: preservation falls, nothing is gained",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="jpeg",
        target=f"{_BASELINES}.appearance:Jpeg",
        summary="the reference after strong JPEG compression",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="swap",
        target=f"{_BASELINES}.swap:Swap",
        summary="another identity of the suite: no preservation, all change",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="warp",
        target=f"{_BASELINES}.warp:Warp",
        summary="the reference under a smooth seeded warp of the face",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="noise",
        target=f"{_BASELINES}.noise:Noise",
        summary="noise without a face (or added to the reference: sigma=25)",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="images",
        target=f"{_WRAPPERS}.images:Images",
        summary="images:DIR, a folder of images already made",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="python",
        target=f"{_WRAPPERS}.python:PythonMethod",
        summary="python:module:Name or python:file.py:Name, your class or function",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="command",
        target=f"{_WRAPPERS}.command:Command",
        summary="command:PROGRAM, a program that speaks JSON lines",
        kinds=ALL_KINDS,
    ),
    MethodInfo(
        name="http",
        target=f"{_WRAPPERS}.http:Hosted",
        summary="http:openai, http:URL or http:MAPPING.yaml, a model that is asked over HTTP",
        kinds=ALL_KINDS,
        licence="terms of the service",
    ),
    MethodInfo(
        name="comfyui",
        target=f"{_WRAPPERS}.comfyui:ComfyUI",
        summary="comfyui:WORKFLOW.json, a workflow in API format on a ComfyUI server",
        kinds=ALL_KINDS,
        licence="that of the models in the workflow",
        extras=("comfyui",),
    ),
    MethodInfo(
        name="diffusers",
        target=RECIPE_METHOD,
        summary="diffusers:RECIPE, a pipeline of diffusers by a recipe, or diffusers:FILE.yaml",
        kinds=ALL_KINDS,
        extras=("methods",),
        route="recipe",
    ),
    MethodInfo(
        name="program",
        target=PROGRAM_TARGET,
        summary="program:FILE.yaml, a method of others by a recipe of your own",
        kinds=ALL_KINDS,
        route="command",
    ),
    MethodInfo(
        name="base:flux-dev",
        target=f"{_BASELINES}.flux_dev:FluxDev",
        summary="FLUX.1-dev on the prompt alone: the without-ID counterpart",
        base="flux-dev",
        licence="FLUX.1 [dev] non-commercial",
        extras=("methods",),
        needs=("flux-dev",),
    ),
    MethodInfo(
        name="pulid-flux",
        target="idbench.methods.pulid.pipeline:PuLIDFlux",
        summary="identity tokens injected into FLUX's image stream by cross-attention",
        base="flux-dev",
        licence="FLUX.1 [dev] non-commercial; antelopev2: non-commercial research only",
        extras=("methods",),
        needs=_PULID_FILES,
        rows=(
            "editidv2:table1:PuLID (Flux)",
            "flexid:table1:PuLID (Flux)",
            "dynamicid:table1:PuLID-FLUX",
        ),
    ),
    MethodInfo(
        name="editid",
        target="idbench.methods.editid.method:EditID",
        summary="PuLID-FLUX with pooled noise queries among its tokens (reconstruction)",
        base="flux-dev",
        licence="FLUX.1 [dev] non-commercial; antelopev2: non-commercial research only",
        extras=("methods",),
        needs=_PULID_FILES,
        rows=("editidv2:table1:EditID",),
    ),
    MethodInfo(
        name="editidv2",
        target="idbench.methods.editidv2.method:EditIDv2",
        summary="PuLID-FLUX with retrained cross-attention; the paper's reading by mode=paper",
        base="flux-dev",
        licence="FLUX.1 [dev] non-commercial; antelopev2: non-commercial research only",
        extras=("methods",),
        needs=_PULID_FILES,
        rows=("editidv2:table1:EditIDv2",),
    ),
    MethodInfo(
        name="dynamicid",
        target="idbench.methods.dynamicid.method:DynamicID",
        summary="gated attention to identity tokens with editable faces, one or more people",
        kinds=("single_id", "multi_id"),
        base="sd15",
        licence="not stated; buffalo_l: non-commercial research only",
        extras=("methods",),
        needs=(
            "stable-diffusion-v1-5",
            "CLIP-ViT-H-14-laion2B-s32B-b79K",
            "buffalo_l",
            "dynamicid",
            "resemotenet",
        ),
        rows=(
            "dynamicid:table1:Ours",
            "dynamicid:table2:Ours",
            "dynamicid:table3:Ours",
            "dynamicid:table3:Ours w/o SAA",
            "dynamicid:table3:Ours w/o IMR",
            "dynamicid:table4:Ours",
            "dynamicid:table4:Ours w/o DFM",
            "dynamicid:table4:Ours w/o LDC",
        ),
    ),
    MethodInfo(
        name="editedid",
        target="idbench.methods.editedid.method:EditedID",
        summary="gives the people of an edited image their own faces back, training-free",
        kinds=("edit_restoration",),
        base="sd14",
        licence="CreativeML OpenRAIL-M",
        extras=("methods",),
        needs=("stable-diffusion-v1-4", "buffalo_l"),
        rows=(
            "editedid:table3:EditedID",
            "editedid:table7:Full Model",
            "editedid:table7:w/o Alignment",
            "editedid:table7:w/o Disentanglement",
            "editedid:table7:w/o Entanglement",
            "editedid:table7:Baseline",
            "editedid:table8:EditedID",
            "editedid:table9:EditedID (ours)",
            "editedid:table12:Clean → EditedID (w/o DiffBIR)",
            "editedid:table13:Single / full",
            "editedid:table13:Single / w/o gating",
            "editedid:table13:Dual / full",
            "editedid:table13:Dual / w/o gating",
            "editedid:table13:Three / full",
            "editedid:table13:Three / w/o gating",
        ),
    ),
    MethodInfo(
        name="flexid",
        target="idbench.methods.flexid.method:FlexID",
        summary="PuLID-FLUX and a face in the text tokens, weighed by prompt and step",
        base="flux-dev",
        licence="FLUX.1 [dev] non-commercial; antelopev2: non-commercial research only; "
        "FaceCLIP: CC BY-NC 4.0",
        extras=("methods",),
        needs=(*_PULID_FILES, "faceclip", "clip-vit-large-patch14"),
        rows=("flexid:table1:FlexID (Ours)",),
    ),
    MethodInfo(
        name="flexip",
        target="idbench.methods.flexip.method:FlexIP",
        summary="preservation and personalization adapters weighed by gamma, for any subject",
        kinds=("subject", "single_id"),
        base="sd15",
        licence="no public weights; that of whoever trained the adapter",
        extras=("methods",),
        needs=(
            "stable-diffusion-v1-5",
            "CLIP-ViT-H-14-laion2B-s32B-b79K",
            "dinov2-large",
            "flexip",
        ),
        rows=("flexip:table1:FlexIP (Ours)", "flexip:table2:FlexIP"),
    ),
)
