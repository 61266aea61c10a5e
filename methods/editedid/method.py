"""EditedID as a method of the harness: edited images in, restored images or failures out."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

import platformdirs
import torch
from PIL import Image

from idbench.methods.common.locations import digest
from idbench.methods.editedid.compositing import Inpainter
from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.faces import DlibFaces, FaceDetector, InsightFaces, NoFaceError
from idbench.methods.editedid.jobs import EditedElement, FacePlace, Job
from idbench.methods.editedid.masks import MissingMaskError
from idbench.methods.editedid.multi_face import MultiFaceEditedID, Prepared, Restorer
from idbench.methods.editedid.parsing import BiSeNetParser, FaceParser, FarlParser
from idbench.methods.editedid.registration import RegistrationError
from idbench.methods.editedid.weights import base_digests, load_pipeline, located
from idbench.methods.editedid.word_alignment import PromptError
from idbench.methods.protocol import Capabilities, Edit, Failure, Request

VERSION = 1  # raised with every change that moves a pixel
MAX_PEOPLE = 16

Detector = Literal["auto", "dlib", "insightface", "none"]


@dataclass(frozen=True, kw_only=True)
class EditedID(EditedIDConfig):
    """Settings, where the files are, and the networks, which the first request loads.

    Elements of a request without a mask need a face parser. Faces are those that the request
    names, else those that the detector finds in both images.

    Attributes:
        identity: Elements taken from the original.
        detector: "dlib" ships with the extra `embedded`, "insightface" needs `face_models`;
            "auto" is dlib where it is installed.
        parser: Finds elements without a mask: "farl" (the paper's), "bisenet" or none.
        weights: Folder of the files; the application data folder of this user if None.
        base: Stable Diffusion 1.4 in the layout of diffusers, if not in `weights`.
        face_models: The ONNX files of buffalo_l, if not in `weights`.
        parser_file: The parser's file, if not in `weights`.
        join_requests: Let the faces of all requests of a call pass together. Faster on a GPU; an
            image then depends on its neighbours in the last bits.
        restorer: Sharpens the edited image first; from Python only.
        inpainter: Smooths the edges of faces; from Python only.
        compile: Compile the UNet with `torch.compile`.
        device: A torch device.
        dtype: Of the networks: float32, bfloat16 or float16.
    """

    identity: tuple[str, ...] = ("face",)
    detector: Detector = "auto"
    parser: Literal["none", "farl", "bisenet"] = "none"
    weights: Path | None = None
    base: Path | None = None
    face_models: Path | None = None
    parser_file: Path | None = None
    join_requests: bool = False
    restorer: Restorer | None = None
    inpainter: Inpainter | None = None
    compile: bool = False
    device: str = "cpu"
    dtype: str = "float32"

    name: ClassVar[str] = "editedid"

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: Naming the setting, its value and what is allowed.
        """
        EditedIDConfig.__post_init__(self)
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"dtype must be float32, bfloat16 or float16, got {self.dtype!r}")

    @property
    def capabilities(self) -> Capabilities:
        """Edits of any number of people; the seed reaches an inpainter only."""
        return Capabilities(
            kinds=frozenset({"edit_restoration"}),
            max_people=MAX_PEOPLE,
            uses_seed=self.inpainter is not None,
        )

    @property
    def config(self) -> EditedIDConfig:
        """The settings of the pipeline alone."""
        names = [field.name for field in dataclasses.fields(EditedIDConfig)]
        return EditedIDConfig(**{name: getattr(self, name) for name in names})

    def fingerprint(self) -> Mapping[str, object]:
        """Settings, version of the code, and the sha256 of every file that is read.

        Raises:
            MissingWeightsError: If a file is absent; the message says how to get it.
        """
        weights: dict[str, object] = {"base": base_digests(self._file("base"))}
        if self.parser != "none":
            weights["parser"] = digest(self._file(self.parser))
        detector = self._detector
        if detector == "insightface":
            weights["detector"] = digest(self._file("insightface"))
        packages = ("dlib-bin", "face_recognition_models") if detector == "dlib" else ()
        return {
            "method": self.name,
            "version": VERSION,
            "parameters": dataclasses.asdict(self.config),
            "identity": list(self.identity),
            "detector": {"name": detector, **{p: metadata.version(p) for p in packages}},
            "parser": self.parser,
            "join_requests": self.join_requests,
            "restorer": _name_of(self.restorer),
            "inpainter": _name_of(self.inpainter),
            "compile": self.compile,
            "dtype": self.dtype,
            "weights": weights,
        }

    @cached_property
    def faces(self) -> MultiFaceEditedID:
        """The networks and what stands around them, loaded once.

        Raises:
            MissingWeightsError: If a file is absent; the message says how to get it.
            ValueError: If a checkpoint has other keys than it must have.
        """
        dtype: torch.dtype = getattr(torch, self.dtype)
        pipeline = load_pipeline(self._file("base"), device=self.device, dtype=dtype)
        if self.compile:
            pipeline.unet.compile(fullgraph=True)
        return MultiFaceEditedID(
            pipeline,
            detector=self._load_detector(),
            parser=self._load_parser(),
            restorer=self.restorer,
            inpainter=self.inpainter,
        )

    def generate(self, requests: Sequence[Request]) -> list[Image.Image | Failure]:
        """One RGB image or failure per request, in order."""
        answers: dict[int, Image.Image | Failure] = {}
        prepared: dict[int, Prepared] = {}
        for index, request in enumerate(requests):
            try:
                job = job_of(request, self.identity)
                prepared[index] = self.faces.prepare(job, self.config)
            except NoFaceError as error:
                answers[index] = Failure("no_face", str(error))
            except RegistrationError as error:
                answers[index] = Failure("not_registered", str(error))
            except MissingMaskError as error:
                answers[index] = Failure("no_mask", str(error))
            except PromptError as error:
                answers[index] = Failure("bad_prompt", str(error))
            except UnusableRequestError as error:
                answers[index] = Failure("bad_request", str(error))
        groups = [list(prepared)] if self.join_requests else [[index] for index in prepared]
        for group in groups:
            answers |= zip(group, self._run([prepared[index] for index in group]), strict=True)
        return [answers[index] for index in range(len(requests))]

    def _run(self, prepared: Sequence[Prepared]) -> list[Image.Image | Failure]:
        try:
            return [result.image for result in self.faces.run(prepared, self.config)]
        except FloatingPointError as error:
            if len(prepared) == 1:
                return [Failure("not_finite", str(error))]
            return [answer for one in prepared for answer in self._run([one])]

    @property
    def _detector(self) -> str:
        if self.detector != "auto":
            return self.detector
        installed = all(find_spec(name) for name in ("dlib", "face_recognition_models"))
        return "dlib" if installed else "none"

    def _load_detector(self) -> FaceDetector | None:
        if self._detector == "none":
            return None
        if self._detector == "dlib":
            return DlibFaces()
        return InsightFaces(self._file("insightface"), device=self.device)

    def _load_parser(self) -> FaceParser | None:
        if self.parser == "none":
            return None
        file = self._file(self.parser)
        if self.parser == "farl":
            return FarlParser(file, device=self.device)
        return BiSeNetParser(file, device=self.device)

    def _file(self, key: str) -> Path:
        folder = self.weights or platformdirs.user_data_path("idbench") / "weights"
        parameter = {"base": "base", "insightface": "face_models"}.get(key, "parser_file")
        return located(key, folder, getattr(self, parameter), parameter)


class UnusableRequestError(ValueError):
    """A request that no settings make possible."""


def job_of(request: Request, identity: Sequence[str] = ("face",)) -> Job:
    """What a request asks for.

    Raises:
        UnusableRequestError: If the request has no edit, or an element without a text.
    """
    edit = request.edit
    if edit is None:
        raise UnusableRequestError(
            f"case {request.case_id} has no edited image; editedid answers requests of kind "
            "edit_restoration"
        )
    blank = [index for index, element in enumerate(edit.elements) if not element.text.strip()]
    if blank:
        raise UnusableRequestError(f"case {request.case_id}: element {blank[0]} has no text")
    several = len({face.person for face in edit.faces}) > 1
    return Job(
        original=edit.original.convert("RGB"),
        edited=edit.edited.convert("RGB"),
        elements=tuple(
            EditedElement(
                text=element.text,
                mask=element.mask,
                # Without known faces there is no order that the number could refer to.
                person=element.person if several else None,
            )
            for element in edit.elements
        ),
        identity=tuple(identity),
        places=_places(edit),
        seed=request.seed,
    )


def _places(edit: Edit) -> tuple[FacePlace, ...]:
    return tuple(
        FacePlace(
            person=face.person,
            original_box=face.original_box,
            edited_box=face.edited_box,
            restore=face.restore,
        )
        for face in edit.faces
        if face.original_box is not None or face.edited_box is not None
    )


def _name_of(function: object) -> str | None:
    if function is None:
        return None
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', '?')}"
