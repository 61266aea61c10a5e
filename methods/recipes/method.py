"""`diffusers:RECIPE`: a pipeline of diffusers as a method, without code of its own."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import platformdirs
import torch
from PIL import Image

from idbench.methods.common.insight_faces import FoundFace, InsightFaces
from idbench.methods.protocol import Capabilities, Failure, Request
from idbench.methods.recipes import ip_adapters
from idbench.methods.recipes import weights as files
from idbench.methods.recipes.catalogue import recipe_text
from idbench.methods.recipes.infuse import (
    InfuseIdentity,
    controlnet_reading_identity,
    load_infuse,
)
from idbench.methods.recipes.inputs import Inputs, UnusableRequestError, read_request
from idbench.methods.recipes.landmarks import draw_landmarks, fitted
from idbench.methods.recipes.photomaker import photomaker_arguments
from idbench.methods.recipes.pipelines import load_pipeline, load_prior
from idbench.methods.recipes.quiet import quiet_libraries
from idbench.methods.recipes.recipe import Recipe, Source, read_recipe
from idbench.methods.recipes.validation import pipeline_class
from idbench.methods.wrappers.answers import as_image

Faces = Sequence[tuple[Image.Image, FoundFace]]  # of each reference, with its picture

VERSION = 1  # raised with every change that moves a pixel


class DiffusersMethod:
    """A recipe with its overrides; the pipeline is loaded by the first request.

    Requests are made one at a time, so that an image does not depend on its neighbours.
    """

    def __init__(
        self,
        *,
        recipe: str,
        weights: Path | None = None,
        folders: dict[str, Path] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        adapter_scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        settings: dict[str, Any] | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        """Reads the recipe; nothing else is loaded.

        Args:
            recipe: A name of `idbench list methods 'diffusers:*'`, or the path of a YAML file.
            weights: Folder of all folders; the application data folder of this user if None.
            folders: Folders that lie elsewhere, by the recipe's key: {"base": "/models/sdxl"}.
            num_inference_steps: In place of the recipe's.
            guidance_scale: In place of the recipe's.
            adapter_scale: Of the IP-Adapter, in place of the recipe's.
            width: Where a request states none, in place of the recipe's.
            height: As `width`.
            settings: Arguments of the call in place of the recipe's; null leaves one out.
            device: A torch device.
            dtype: Of the networks: float32, bfloat16 or float16.

        Raises:
            LookupError: If there is no such recipe.
            FileNotFoundError: If there is no such file.
            ValueError: If the recipe or an override is wrong; the message names it.
        """
        if dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"dtype must be float32, bfloat16 or float16, got {dtype!r}")
        given = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
        overrides = {key: value for key, value in given.items() if value is not None}
        read = read_recipe(*recipe_text(recipe))
        read = _overridden(read, {**overrides, **(settings or {})}, adapter_scale)
        sides = {"width": width, "height": height}
        self.recipe = replace(
            read, size=replace(read.size, **{k: v for k, v in sides.items() if v is not None})
        )
        for side in ("width", "height"):
            value, multiple = getattr(self.recipe.size, side), read.size.multiple_of
            if value < multiple or value % multiple:
                raise ValueError(f"{side} must be a multiple of {multiple}, got {value}")
        root = weights or platformdirs.user_data_path("idbench") / "weights"
        self._folders = files.places(read, Path(root), folders or {})
        self._device, self._dtype = device, dtype

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.recipe.label or self.recipe.name

    @property
    def capabilities(self) -> Capabilities:
        """What the recipe says it can do."""
        return Capabilities(
            kinds=frozenset(self.recipe.kinds),
            max_people=self.recipe.max_people,
            uses_references=self.recipe.uses_references,
        )

    def fingerprint(self) -> Mapping[str, object]:
        """The recipe with its overrides, the weights by sha256, diffusers by version, the dtype.

        Raises:
            MissingWeightsError: If files are absent; the message says how to get them.
        """
        recipe = asdict(self.recipe)
        for key in ("summary", "licence", "notes", "rows", "weights"):
            del recipe[key]  # move no pixel, or are in the digests
        return {
            "method": "diffusers",
            "version": VERSION,
            "recipe": recipe,
            "diffusers": diffusers.__version__,
            "dtype": self._dtype,
            "weights": files.digests(self.recipe, self._folders),
        }

    def generate(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        """One RGB image or failure per request, in order."""
        return [self._answer(request) for request in requests]

    @cached_property
    def pipeline(self) -> Any:
        """The pipeline, loaded once.

        Raises:
            MissingWeightsError: If files are absent; the message says how to get them.
            ValueError: If the recipe does not fit the installed diffusers, or files do not hold
                what they must.
        """
        files.present(self.recipe, self._folders)
        return load_pipeline(
            self.recipe, self._folders, device=self._device, dtype=getattr(torch, self._dtype)
        )

    @cached_property
    def prior(self) -> Any:
        """The pipeline that runs first; None where there is none."""
        dtype = getattr(torch, self._dtype)
        return load_prior(
            self.recipe, self._folders, self.pipeline, device=self._device, dtype=dtype
        )

    @cached_property
    def _networks(self) -> InsightFaces:
        """The face networks of the recipe."""
        key = self.recipe.face_models or ""
        detector, recogniser = (
            self._folders[key] / name for name in self.recipe.weights[key].files[:2]
        )
        return InsightFaces(detector, recogniser, device=self._device)

    @cached_property
    def _infuse(self) -> InfuseIdentity | None:
        """InfiniteYou's networks; None where the recipe has none."""
        if self.recipe.infuse is None:
            return None
        dtype = getattr(torch, self._dtype)
        return load_infuse(self.recipe.infuse, self._folders, self._device, dtype)

    def _answer(self, request: Request) -> Image.Image | Failure:
        try:
            inputs = read_request(self.recipe, request, self.recipe.size)
            with _seeded(request.seed, self._device):
                made = self._make(inputs, request.seed)
        except UnusableRequestError as error:
            return Failure(error.reason, str(error))
        image = as_image(made)
        if isinstance(image, Image.Image) and image.size != inputs.output_size:
            return image.resize(inputs.output_size, Image.Resampling.LANCZOS)
        return image

    def _make(self, inputs: Inputs, seed: int) -> Any:
        pipe, recipe = self.pipeline, self.recipe
        faces = (
            ip_adapters.faces_of(inputs.references, self._networks) if recipe.face_models else []
        )
        arguments = self._arguments(recipe.inputs, recipe.settings, inputs, faces)
        if recipe.prior is not None:
            before = self._arguments(recipe.prior.inputs, recipe.prior.settings, inputs, faces)
            yielded = self.prior(**before)
            for argument, name in recipe.prior.outputs.items():
                arguments[argument] = getattr(yielded, name)
        if recipe.photomaker is not None:
            arguments |= self._photomaker(arguments.pop("negative_prompt", ""), inputs, faces)
        generator = torch.Generator("cpu").manual_seed(seed)
        # Floating values, so that what is no number is not rounded to one.
        with (
            quiet_libraries(),
            self._controlnet(arguments, faces),
        ):  # they say the same of every image
            return pipe(**arguments, generator=generator, output_type="np").images[0]

    def _controlnet(
        self, arguments: Mapping[str, Any], faces: Faces
    ) -> AbstractContextManager[None]:
        """In which the ControlNet, if it is one for identities, is given the identity."""
        if self._infuse is not None:
            picture, face = faces[0]
            return controlnet_reading_identity(self.pipeline, self._infuse(picture, face))
        adapter = self.recipe.ip_adapter
        if adapter is None or not adapter.controlnet_reads_tokens:
            return nullcontext()
        (embeds,) = arguments["ip_adapter_image_embeds"]
        return ip_adapters.controlnet_reading_tokens(self.pipeline, embeds)

    def _photomaker(self, negative_prompt: str, inputs: Inputs, faces: Faces) -> dict[str, Any]:
        config = self.recipe.photomaker
        if config is None:
            return {}
        embeds = ip_adapters.face_embeds(faces, self._networks, raw=True, guided=False)
        try:
            return photomaker_arguments(
                self.pipeline,
                config,
                [reference.image for reference in inputs.references],
                embeds[0, :, 0],
                prompt=inputs.prompt,
                class_word=inputs.value("class_word"),
                negative_prompt=negative_prompt,
                num_inference_steps=self.recipe.settings["num_inference_steps"],
                guided=self._guidance_scale > 1,
            )
        except ValueError as error:
            raise UnusableRequestError("prompt_too_long", str(error)) from error

    def _arguments(
        self,
        sources: Mapping[str, Source],
        settings: Mapping[str, Any],
        inputs: Inputs,
        faces: Faces,
    ) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        for argument, value in settings.items():
            _put(arguments, argument, value)
        for argument, source in sources.items():
            value = self._value(source, inputs, faces)
            if value is not None:
                _put(arguments, argument, value)
        return arguments

    def _value(self, source: Source, inputs: Inputs, faces: Faces) -> Any:
        if source == "face_embeds":
            return self._face_embeds(faces)
        if source == "landmarks":
            picture, face = faces[0]
            size = (inputs.width, inputs.height)
            return draw_landmarks(fitted(face.landmarks, picture.size, size), size)
        value = inputs.value(source)
        if source == "box_masks" and value is not None:
            return ip_adapters.as_ip_adapter_masks(value, self.pipeline.device)
        return value

    def _face_embeds(self, faces: Faces) -> list[torch.Tensor]:
        guided = self._guidance_scale > 1
        adapter = self.recipe.ip_adapter
        if adapter is not None and adapter.face == "embedding_and_crop":
            ip_adapters.set_face_crops(
                self.pipeline, faces, shortcut=adapter.shortcut, guided=guided
            )
        raw = adapter is not None and adapter.face == "raw_embedding"
        embeds = ip_adapters.face_embeds(faces, self._networks, raw=raw, guided=guided)
        return [embeds.to(self.pipeline.device, getattr(torch, self._dtype))]

    @property
    def _guidance_scale(self) -> float:
        if "guidance_scale" in self.recipe.settings:
            return float(self.recipe.settings["guidance_scale"])
        return float(_default(pipeline_class(self.recipe.pipeline), "guidance_scale"))


def _overridden(recipe: Recipe, settings: Mapping[str, Any], adapter_scale: float | None) -> Recipe:
    unknown = settings.keys() - recipe.settings.keys()
    if unknown:
        raise ValueError(
            f"recipe {recipe.name} has no setting {', '.join(map(repr, sorted(unknown)))}; "
            f"it has {', '.join(recipe.settings)}"
        )
    merged = {**recipe.settings, **settings}
    changed = replace(recipe, settings={k: v for k, v in merged.items() if v is not None})
    if adapter_scale is None:
        return changed
    if recipe.ip_adapter is None:
        raise ValueError(f"adapter_scale: recipe {recipe.name} has no IP-Adapter")
    if not 0 <= adapter_scale <= 2:
        raise ValueError(f"adapter_scale must be in [0, 2], got {adapter_scale}")
    return replace(changed, ip_adapter=replace(recipe.ip_adapter, scale=adapter_scale))


def _put(arguments: dict[str, Any], name: str, value: Any) -> None:
    """Sets an argument; a dot goes into a mapping."""
    head, _, rest = name.partition(".")
    if rest:
        _put(arguments.setdefault(head, {}), rest, value)
    else:
        arguments[head] = value


def _default(pipeline: type[Any], argument: str) -> Any:
    return inspect.signature(pipeline.__call__).parameters[argument].default


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Seeds torch's own generators, which are afterwards as they were.

    Some pipelines draw from them (OmniGen encodes its references so) besides the one they are
    given.
    """
    place = torch.device(device)
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
