"""DynamicID as a method of the harness: requests in, images or failures out."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import platformdirs
import torch
from PIL import Image

from idbench.methods import protocol
from idbench.methods.common.latent_sizes import check_size
from idbench.methods.common.locations import digest
from idbench.methods.dynamicid.config import DynamicIDConfig
from idbench.methods.dynamicid.faces import NoFaceError
from idbench.methods.dynamicid.layout import box_from_xyxy
from idbench.methods.dynamicid.loading import load_pipeline, needed_files
from idbench.methods.dynamicid.motion import target_face_prompt
from idbench.methods.dynamicid.person import Person
from idbench.methods.dynamicid.pipeline import DynamicIDPipeline
from idbench.methods.dynamicid.weights import DynamicIDFiles
from idbench.methods.protocol import Capabilities, Failure, Request

VERSION = 1  # raised with every change that moves a pixel
MAX_PEOPLE = 8  # as many strips as the coarsest attention of a 512 px image has columns


@dataclass(frozen=True, kw_only=True)
class DynamicID(DynamicIDConfig):
    """Settings, where the files are, and the pipeline that is loaded by the first request.

    Attributes:
        weights: Folder of the files; the application data folder of this user if None. `idbench
            method check dynamicid` says what is absent and how to get it.
        base: Stable Diffusion 1.5 in the layout of diffusers, if not in `weights`.
        clip_vision: CLIP-ViT-H, if not in `weights`.
        face_models: The ONNX files of buffalo_l, if not in `weights`.
        saa: SAA.bin or what `idbench train dynamicid-saa` wrote, if not in `weights`.
        imr: IMR.bin or what `idbench train dynamicid-imr` wrote, if not in `weights`.
        keypoints: The key point encoder, if not beside the IMR.
        expression: ResEmoteNet, if not in `weights`.
        merge_lora: Add the LoRA to the UNet's weights, which costs nothing at inference.
        exact_batches: Send each image through the UNet by itself, so that it does not depend on
            its neighbours to the last bit. Off is faster on a GPU and moves pixels by rounding.
        compile: Compile the UNet with `torch.compile`.
        device: A torch device.
        dtype: Of the large networks: float32, bfloat16 or float16.
    """

    weights: Path | None = None
    base: Path | None = None
    clip_vision: Path | None = None
    face_models: Path | None = None
    saa: Path | None = None
    imr: Path | None = None
    keypoints: Path | None = None
    expression: Path | None = None
    merge_lora: bool = True
    exact_batches: bool = True
    compile: bool = False
    device: str = "cpu"
    dtype: str = "float32"

    name: ClassVar[str] = "dynamicid"
    capabilities: ClassVar[Capabilities] = Capabilities(
        kinds=frozenset({"single_id", "multi_id"}), max_people=MAX_PEOPLE
    )

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        super().__post_init__()
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"dtype must be float32, bfloat16 or float16, got {self.dtype!r}")

    @property
    def config(self) -> DynamicIDConfig:
        """The settings of the pipeline alone."""
        names = [field.name for field in dataclasses.fields(DynamicIDConfig)]
        return DynamicIDConfig(**{name: getattr(self, name) for name in names})

    @property
    def files(self) -> DynamicIDFiles:
        """Where the files are."""
        folder = self.weights or platformdirs.user_data_path("idbench") / "weights"
        return DynamicIDFiles.in_folder(
            folder,
            base=self.base,
            clip_vision=self.clip_vision,
            face_models=self.face_models,
            saa=self.saa,
            imr=self.imr,
            keypoints=self.keypoints,
            expression=self.expression,
        )

    def fingerprint(self) -> Mapping[str, object]:
        """Settings, version of the code, and the sha256 of every file that is read.

        Raises:
            MissingWeightsError: If a file is absent; the message says how to get it.
        """
        keys = needed_files(self.config)
        self.files.require(*keys)
        return {
            "method": self.name,
            "version": VERSION,
            "parameters": dataclasses.asdict(self.config),
            "merge_lora": self.merge_lora,
            "exact_batches": self.exact_batches,
            "compile": self.compile,
            "dtype": self.dtype,
            "weights": {name: digest(path) for name, path in self.files.digested(keys).items()},
        }

    @cached_property
    def pipeline(self) -> DynamicIDPipeline:
        """The networks, loaded once.

        Raises:
            MissingWeightsError: If a file is absent; the message says how to get it.
            ValueError: If one has other keys or shapes than it must have.
        """
        dtype: torch.dtype = getattr(torch, self.dtype)
        pipeline = load_pipeline(
            self.files, self.config, device=self.device, dtype=dtype, merge=self.merge_lora
        )
        if self.compile:
            pipeline.unet.compile()
        return pipeline

    def generate(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        """One RGB image or failure per request, in order."""
        answers: dict[int, Image.Image | Failure] = {}
        jobs: dict[int, _Job] = {}
        for index, request in enumerate(requests):
            try:
                jobs[index] = self._job(request)
                for person in jobs[index].people:
                    self.pipeline.identity.encode(person)
            except NoFaceError as error:
                answers[index] = Failure("no_face", str(error))
            except _UnusableRequestError as error:
                answers[index] = Failure("bad_request", str(error))
            if index in answers:
                jobs.pop(index, None)
        for group in _groups(jobs, exact=self.exact_batches):
            made = self._make([jobs[index] for index in group])
            answers.update(zip(group, made, strict=True))
        return [answers[index] for index in range(len(requests))]

    def _make(self, jobs: Sequence["_Job"]) -> list[Image.Image | Failure]:
        output = self.pipeline(
            [job.prompt for job in jobs],
            [job.people for job in jobs],
            [torch.Generator().manual_seed(job.seed) for job in jobs],
            height=jobs[0].height,
            width=jobs[0].width,
            decode=False,
        )
        made: list[Image.Image | Failure] = []
        for latents in output.latents.split(1):  # type: ignore[no-untyped-call]
            try:
                made += self.pipeline.decode(latents)
            except FloatingPointError as error:
                made.append(Failure("not_finite", str(error)))
        return made

    def _job(self, request: Request) -> "_Job":
        height, width = request.height or self.height, request.width or self.width
        try:
            check_size(height, width)
            people = people_of(request)
        except ValueError as error:
            raise _UnusableRequestError(str(error)) from error
        return _Job(request.prompt, people, request.seed, height, width)


class _UnusableRequestError(ValueError):
    """A request that no settings make possible."""


@dataclass(frozen=True, slots=True)
class _Job:
    prompt: str
    people: tuple[Person, ...]
    seed: int
    height: int
    width: int

    @property
    def group(self) -> tuple[object, ...]:
        """Jobs with equal groups can share a batch."""
        boxed = any(person.box is not None for person in self.people)
        return (self.height, self.width, len(self.people), boxed)


def _groups(jobs: Mapping[int, _Job], *, exact: bool) -> Iterator[list[int]]:
    """Indices of jobs that go through the UNet together."""
    if exact:
        yield from ([index] for index in jobs)
        return
    by_group: dict[tuple[object, ...], list[int]] = {}
    for index, job in jobs.items():
        by_group.setdefault(job.group, []).append(index)
    yield from by_group.values()


def people_of(request: Request) -> tuple[Person, ...]:
    """The people of a request: their identity references, attributes and boxes.

    References with the same `person` are pictures of one person. Attributes become the face prompt;
    a person without attributes keeps the face of the reference.

    Raises:
        ValueError: If there is no identity reference, or some people have boxes and some not.
    """
    references: dict[int, list[protocol.Reference]] = {}
    for reference in request.references:
        if reference.role == "identity":
            references.setdefault(reference.person, []).append(reference)
    if not references:
        raise ValueError(f"case {request.case_id} has no identity reference")
    attributes = {person.person: person for person in request.people}
    people = []
    for slot in sorted(references):
        asked = attributes.get(slot, protocol.Person(person=slot))
        people.append(
            Person(
                references=tuple(reference.image for reference in references[slot]),
                face_boxes=tuple(reference.face_box for reference in references[slot]),
                face_prompt=target_face_prompt(asked.expression, asked.orientation),
                box=None if asked.box is None else box_from_xyxy(asked.box),
            )
        )
    boxed = sum(person.box is not None for person in people)
    if boxed not in (0, len(people)):
        raise ValueError(
            f"{boxed} of the {len(people)} people of case {request.case_id} have boxes; all or "
            "none must"
        )
    return tuple(people)
