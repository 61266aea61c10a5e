"""What a recipe says: a pipeline of diffusers, its files, and where its arguments come from.

A recipe is one YAML file. `inputs` gives arguments of the pipeline's call a value from the request
(`Source`), `settings` gives them a constant; the names are those of the installed diffusers, and
`validation` checks that they exist. A dot goes into a mapping: `cross_attention_kwargs.scale`.

    name: my-method                      # letters, digits, dots and dashes
    summary: one line for `idbench list methods`
    kinds: [single_id, subject]          # of requests that it can answer
    base: sdxl                           # the model underneath
    licence: of the weights
    pipeline: StableDiffusionXLPipeline  # a class of diffusers
    weights:                             # `base` is the folder that the pipeline is read from
      base:
        repository: stabilityai/stable-diffusion-xl-base-1.0
        revision: 462165984030d82259a11f4367a4eed129e94a7b
        path: stable-diffusion-xl-base-1.0   # in the weights folder
        files: [model_index.json, "unet/*.json", ...]
      adapter: {repository: h94/IP-Adapter, path: IP-Adapter, files: [...]}
    ip_adapter: {weights: adapter, subfolder: sdxl_models, weight_name: ip-adapter_sdxl.safetensors}
    inputs: {prompt: prompt, ip_adapter_image: references_nested, width: width, height: height}
    settings: {num_inference_steps: 30, guidance_scale: 5.0, negative_prompt: ""}
    size: {width: 1024, height: 1024, multiple_of: 8}
    dtype: float16                       # that the weights are meant for
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from idbench.methods.common.yaml_text import read_yaml
from idbench.methods.protocol import Kind

Source = Literal[
    "prompt",  # the instruction of an edit, else the prompt
    "reference",  # the first reference
    "references",  # all of them, persons in order
    "references_nested",  # [[...]]: all of them for the one IP-Adapter
    "image",  # the image to edit, else the first reference
    "image_at_size",  # the same, cropped and resized to width x height
    "images",  # the image to edit, else all references
    "images_nested",  # [[...]]: the same for a batch of one prompt
    "face_embeds",  # faces of the references, as an IP-Adapter-FaceID takes them
    "landmarks",  # InstantID's picture of five points of the face
    "black",  # a black picture of width x height
    "box_masks",  # where each reference belongs, as an IP-Adapter takes it; several people only
    "boxes",  # (x0, y0, x1, y1) in [0, 1] of each person
    "class_word",  # what the first reference shows, such as "dog"
    "width",
    "height",
    "pixels",  # width x height
]
FROM_REFERENCES: frozenset[str] = frozenset(
    {
        "reference",
        "references",
        "references_nested",
        "image",
        "image_at_size",
        "images",
        "images_nested",
        "face_embeds",
        "landmarks",
    }
)
FROM_FACES: frozenset[str] = frozenset({"face_embeds", "landmarks"})

_STRICT = ConfigDict(extra="forbid", strict=True)
_Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """Files of one repository. `files` are glob patterns; what they match moves pixels."""

    __pydantic_config__ = _STRICT

    repository: str
    path: str
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    revision: str = "main"
    note: str = ""  # such as how access is granted


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A part of the pipeline that is not in its folder."""

    __pydantic_config__ = _STRICT

    weights: str
    library: Literal["diffusers", "transformers"]
    class_name: Annotated[str, Field(alias="class")]
    subfolder: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheduler:
    """A scheduler in place of that of the folder, with its settings unless stated here."""

    __pydantic_config__ = _STRICT

    class_name: Annotated[str, Field(alias="class")]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class IPAdapter:
    """An IP-Adapter file. `face` says what it is fed with besides CLIP.

    "embedding": the embedding of the face, of length 1 (FaceID); "raw_embedding": as the network
    gives it (InstantID). "embedding_and_crop": the tokens of the aligned face in CLIP too
    (FaceID-Plus), with a shortcut past them in version 2. With `controlnet_reads_tokens` the
    ControlNet is given the adapter's tokens in place of the prompt (InstantID's IdentityNet).
    """

    __pydantic_config__ = _STRICT

    weights: str
    weight_name: str
    subfolder: str = ""
    scale: Annotated[float, Field(ge=0, le=2)] = 1.0
    face: Literal["none", "embedding", "raw_embedding", "embedding_and_crop"] = "none"
    shortcut: bool = False
    controlnet_reads_tokens: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoMaker:
    """A PhotoMaker v2 file: its ID encoder and its LoRA.

    `style_strength` is the share of the steps that see the prompt alone, of which there are at
    most 30; the prompt with the stacked identity follows.
    """

    __pydantic_config__ = _STRICT

    weights: str
    weight_name: str
    style_strength: Annotated[float, Field(ge=0, le=1)] = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Infuse:
    """InfiniteYou's resampler and facexlib's ArcFace; their tokens are the ControlNet's text."""

    __pydantic_config__ = _STRICT

    weights: str
    weight_name: str
    recogniser_weights: str
    recogniser_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """A LoRA file, and how much of it."""

    __pydantic_config__ = _STRICT

    weights: str
    weight_name: str
    subfolder: str = ""
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """A pipeline that runs first. `outputs` maps arguments of the main call to what it yields.

    `share` names components of the main pipeline that it uses too.
    """

    __pydantic_config__ = _STRICT

    pipeline: str
    weights: str
    inputs: dict[str, Source]
    outputs: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    share: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Pixels where a request states none. Edits keep the shape of their image and this area."""

    __pydantic_config__ = _STRICT

    width: _Positive
    height: _Positive
    multiple_of: _Positive


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A method made of a pipeline of diffusers; the module's docstring has an example.

    Attributes:
        name: What it is called after "diffusers:".
        summary: One line.
        kinds: Kinds of requests that it can answer.
        base: The model underneath.
        licence: Of the weights.
        pipeline: Class of diffusers.
        weights: Where files come from; `base` is the pipeline's own folder.
        inputs: Argument of the call to where its value comes from.
        size: Default size and what sizes must be a multiple of.
        label: What tables call it, where that is not the name.
        rows: Rows of the papers' tables that it stands for, "paper:table:row".
        notes: Where it differs from what the papers ran.
        load: Further arguments of `from_pretrained`, such as `safety_checker: null`.
        components: Parts of the pipeline from other repositories.
        scheduler: In place of that of the folder.
        ip_adapter: An IP-Adapter.
        photomaker: A PhotoMaker v2; it takes the place of an input for the prompt.
        infuse: InfiniteYou's identity, for a FLUX pipeline with a ControlNet.
        face_models: Key in `weights` of the insightface networks, if faces are embedded: the
            detector is its first file, the recogniser the next.
        loras: LoRA files, applied in order.
        prior: A pipeline that runs first.
        settings: Arguments of the call with a constant value.
        reference_phrases: What is put before the prompt for the first reference, the second, ...
        dtype: That the weights are meant for.
        max_people: Most people in one image.
        max_references: Most references of a request; None for any number.
    """

    __pydantic_config__ = _STRICT

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")]
    summary: str
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]
    base: str
    licence: str
    pipeline: str
    weights: dict[str, Repository]
    inputs: dict[str, Source]
    size: Size
    label: str = ""
    rows: tuple[str, ...] = ()
    notes: str = ""
    load: dict[str, Any] = field(default_factory=dict)
    components: dict[str, Component] = field(default_factory=dict)
    scheduler: Scheduler | None = None
    ip_adapter: IPAdapter | None = None
    photomaker: PhotoMaker | None = None
    infuse: Infuse | None = None
    face_models: str | None = None
    loras: tuple[Lora, ...] = ()
    prior: Prior | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    reference_phrases: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_people: _Positive = 1
    max_references: _Positive | None = None

    @property
    def uses_references(self) -> bool:
        """Whether references move pixels."""
        sources = {*self.inputs.values(), *(self.prior.inputs.values() if self.prior else ())}
        own = self.photomaker is not None or self.infuse is not None
        return own or bool(FROM_REFERENCES & sources)

    @property
    def is_edit(self) -> bool:
        """Whether it can edit an image."""
        return "edit_restoration" in self.kinds


def read_recipe(text: str, where: str) -> Recipe:
    """The recipe in a YAML text; `where` begins every message.

    Raises:
        ValueError: If it is no YAML mapping, a key is unknown, missing or of a wrong type, or the
            keys contradict one another; the message names the key.
    """
    try:
        document = read_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{where} must be a mapping of keys, such as `pipeline: FluxPipeline`")
    try:
        # As JSON: in Python mode pydantic's strictness would refuse lists for tuples.
        recipe = TypeAdapter(Recipe).validate_json(json.dumps(document))
    except ValidationError as error:
        lines = [
            f"{where}: {'.'.join(map(str, entry['loc']))}: {entry['msg']}"
            for entry in error.errors()
        ]
        raise ValueError("\n".join(lines)) from error
    faults = [f"{where}: {fault}" for fault in _contradictions(recipe)]
    if faults:
        raise ValueError("\n".join(faults))
    return recipe


def _contradictions(recipe: Recipe) -> list[str]:
    faults = []
    if "base" not in recipe.weights:
        faults.append("weights: base is missing; it is the folder of the pipeline")
    used: Mapping[str, str | None] = {
        **{f"components.{name}": part.weights for name, part in recipe.components.items()},
        "ip_adapter": recipe.ip_adapter.weights if recipe.ip_adapter else None,
        "photomaker": recipe.photomaker.weights if recipe.photomaker else None,
        "infuse": recipe.infuse.weights if recipe.infuse else None,
        "infuse.recogniser": recipe.infuse.recogniser_weights if recipe.infuse else None,
        "face_models": recipe.face_models,
        **{f"loras.{index}": lora.weights for index, lora in enumerate(recipe.loras)},
        "prior": recipe.prior.weights if recipe.prior else None,
    }
    for place, key in used.items():
        if key is not None and key not in recipe.weights:
            known = ", ".join(recipe.weights)
            faults.append(f"{place}: no weights are called {key!r}; there are {known}")
    idle = recipe.weights.keys() - {"base", *used.values()}
    faults += [f"weights: nothing uses {key!r}" for key in sorted(idle)]
    both = recipe.inputs.keys() & recipe.settings.keys()
    faults += [f"{key} is both an input and a setting" for key in sorted(both)]
    adapter = recipe.ip_adapter
    embeds_faces = "face_embeds" in recipe.inputs.values()
    if embeds_faces != (adapter is not None and adapter.face != "none"):
        faults.append("ip_adapter.face and an input from face_embeds belong together")
    own = recipe.photomaker is not None or recipe.infuse is not None
    wants_faces = bool(FROM_FACES & set(recipe.inputs.values())) or own
    if wants_faces != (recipe.face_models is not None):
        faults.append(
            "face_models belongs to photomaker, infuse and inputs from face_embeds, landmarks"
        )
    if recipe.photomaker is not None and "prompt" in recipe.inputs.values():
        faults.append("photomaker gives the pipeline its prompt; leave the input out")
    several = {"multi_id", "multi_subject"} & set(recipe.kinds)
    if several and recipe.max_people < 2:
        faults.append(f"kinds has {', '.join(sorted(several))}, but max_people is 1")
    phrases = len(recipe.reference_phrases)
    if phrases and recipe.max_references != phrases:
        faults.append(f"reference_phrases are for {phrases} references; set max_references to that")
    return faults
