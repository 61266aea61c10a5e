"""FlexIP as a method of the harness: requests in, images or failures out."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import platformdirs
import torch
from PIL import Image

from idbench.methods.common.latent_sizes import check_size
from idbench.methods.common.sd15 import decode_latents
from idbench.methods.flexip.checkpoints import read_settings
from idbench.methods.flexip.config import FlexIPConfig
from idbench.methods.flexip.loading import load_pipeline
from idbench.methods.flexip.masks import MaskFolder
from idbench.methods.flexip.pipeline import FlexIPPipeline
from idbench.methods.flexip.references import Features, Subject
from idbench.methods.flexip.weights import FlexIPFiles
from idbench.methods.protocol import Capabilities, Failure, Reference, Request

VERSION = 1  # raised with every change that moves a pixel
REMEMBERED_SUBJECTS = 256  # features of one reference are about a megabyte


@dataclass(frozen=True, kw_only=True)
class FlexIP(FlexIPConfig):
    """Settings, where the folders are, and the pipeline that is loaded by the first request.

    Attributes:
        weights: Folder of all folders; the application data folder of this user if None.
        base: Stable Diffusion 1.5 in the layout of diffusers, if not in `weights`.
        clip: CLIP ViT-H/14 in the layout of transformers, if not in `weights`.
        dino: DINOv2-L in the layout of transformers, if not in `weights`.
        adapter: The adapter's folder, as `idbench train flexip` writes it, if not in `weights`.
        masks: Folder with `<sha256 of the reference>.png`, white where the subject is; what is
            outside becomes white. A reference without a file there is used whole.
        exact_batches: Send each image through the UNet by itself, so that it does not depend on
            its neighbours to the last bit. Off is faster on a GPU and moves pixels by rounding.
        compile: Compile the UNet with `torch.compile`.
        device: A torch device.
        dtype: Of the networks: float32, bfloat16 or float16.
    """

    weights: Path | None = None
    base: Path | None = None
    clip: Path | None = None
    dino: Path | None = None
    adapter: Path | None = None
    masks: Path | None = None
    exact_batches: bool = True
    compile: bool = False
    device: str = "cpu"
    dtype: str = "float32"

    name: ClassVar[str] = "flexip"
    capabilities: ClassVar[Capabilities] = Capabilities(kinds=frozenset({"subject", "single_id"}))

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        super().__post_init__()
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"dtype must be float32, bfloat16 or float16, got {self.dtype!r}")
        if self.masks is not None:
            MaskFolder(self.masks)

    @property
    def config(self) -> FlexIPConfig:
        """The settings of the pipeline alone."""
        names = [entry.name for entry in dataclasses.fields(FlexIPConfig)]
        return FlexIPConfig(**{name: getattr(self, name) for name in names})

    @property
    def files(self) -> FlexIPFiles:
        """Where the folders are."""
        folder = self.weights or platformdirs.user_data_path("idbench") / "weights"
        return FlexIPFiles.in_folder(
            folder, base=self.base, clip=self.clip, dino=self.dino, adapter=self.adapter
        )

    def fingerprint(self) -> Mapping[str, object]:
        """Settings, version of the code, and the sha256 of everything that is read.

        Raises:
            MissingWeightsError: If a folder is absent; the message says how to get it.
        """
        files = self.files
        files.require("adapter", "base", "clip")
        keys = ["base", "clip", "adapter"]
        if read_settings(files.adapter).get("retrieval") == "dino":
            files.require("dino")
            keys.append("dino")
        masks = {} if self.masks is None else {"masks": MaskFolder(self.masks).digest()}
        return {
            "method": self.name,
            "version": VERSION,
            "parameters": dataclasses.asdict(self.config),
            "exact_batches": self.exact_batches,
            "compile": self.compile,
            "dtype": self.dtype,
            "weights": files.digests(keys),
            **masks,
        }

    @cached_property
    def _features(self) -> OrderedDict[tuple[str, ...], Features]:
        return OrderedDict()

    @cached_property
    def pipeline(self) -> FlexIPPipeline:
        """The networks, loaded once.

        Raises:
            MissingWeightsError: If a folder is absent; the message says how to get it.
            ValueError: If a file does not hold what it must, or files do not belong together.
        """
        dtype: torch.dtype = getattr(torch, self.dtype)
        pipeline = load_pipeline(self.files, self.config, device=self.device, dtype=dtype)
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
            except _UnusableRequestError as error:
                answers[index] = Failure("bad_request", str(error))
        for group in _groups(jobs, exact=self.exact_batches):
            made = self._make([jobs[index] for index in group])
            answers.update(zip(group, made, strict=True))
        return [answers[index] for index in range(len(requests))]

    def _make(self, jobs: Sequence["_Job"]) -> list[Image.Image | Failure]:
        output = self.pipeline(
            [job.prompt for job in jobs],
            [job.features for job in jobs],
            [torch.Generator().manual_seed(job.seed) for job in jobs],
            height=jobs[0].height,
            width=jobs[0].width,
            decode=False,
        )
        made: list[Image.Image | Failure] = []
        for latents in output.latents:
            try:
                made += decode_latents(self.pipeline.vae, latents[None])
            except FloatingPointError as error:
                made.append(Failure("not_finite", str(error)))
        return made

    def _job(self, request: Request) -> "_Job":
        height, width = request.height or self.height, request.width or self.width
        references = references_of(request)
        try:
            check_size(height, width)
            if not references:
                raise ValueError(f"case {request.case_id} has no reference of its subject")
            features = self._encoded(references)
        except ValueError as error:
            raise _UnusableRequestError(str(error)) from error
        return _Job(request.prompt, features, request.seed, height, width)

    def _encoded(self, references: Sequence[Reference]) -> Features:
        """Features of a subject, kept by the sha256 of its references."""
        key = tuple(reference.sha256 for reference in references)
        if key not in self._features:
            masks = None if self.masks is None else MaskFolder(self.masks)
            subject = Subject(
                pictures=tuple(reference.image for reference in references),
                masks=tuple(None if masks is None else masks.find(sha256) for sha256 in key),
            )
            self._features[key] = self.pipeline.encode_subject(subject)
            if len(self._features) > REMEMBERED_SUBJECTS:
                self._features.popitem(last=False)
        return self._features[key]


class _UnusableRequestError(ValueError):
    """A request that no settings make possible."""


@dataclass(frozen=True, slots=True)
class _Job:
    prompt: str
    features: Features
    seed: int
    height: int
    width: int

    @property
    def group(self) -> tuple[int, ...]:
        """Jobs with equal groups can share a batch."""
        return (self.height, self.width, self.features.class_tokens.shape[1])


def _groups(jobs: Mapping[int, _Job], *, exact: bool) -> Iterator[list[int]]:
    """Indices of jobs that go through the UNet together."""
    if exact:
        yield from ([index] for index in jobs)
        return
    by_group: dict[tuple[int, ...], list[int]] = {}
    for index, job in jobs.items():
        by_group.setdefault(job.group, []).append(index)
    yield from by_group.values()


def references_of(request: Request) -> list[Reference]:
    """The pictures of the subject that a request is about: those of the first slot."""
    usable = [reference for reference in request.references if reference.role != "style"]
    return [reference for reference in usable if reference.person == usable[0].person]
