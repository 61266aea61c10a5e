"""How a hosted model is asked: a mapping file for its HTTP interface.

    name: my-service
    summary: one line
    base_url: https://api.example.com/v1
    key_env: MY_SERVICE_KEY              # the environment variable that holds the key
    price_per_image: 0.04                # for the cost counter
    kinds: [single_id, edit_restoration]
    text:                                # the call for requests without pictures; may be left out
      path: /images/generations
      body: json                         # or multipart
      constants: {n: 1, response_format: b64_json}
      inputs: {model: model, prompt: prompt, size: size}
    pictures:                            # the call for requests with pictures; may be left out
      path: /images/edits
      body: multipart
      constants: {n: 1}
      inputs: {model: model, prompt: prompt, size: size, "image[]": image_files}
    answer: {image: data.0.b64_json, encoding: base64, url: data.0.url}
    refusals: {statuses: [400], code: error.code, codes: [moderation_blocked]}
    exhausted: {statuses: [429], code: error.code, codes: [insufficient_quota]}
    idempotency_header: Idempotency-Key  # if the service repeats what it made for an equal key

Names with dots go into mappings, both in what is sent (`input.prompt`) and in what comes back
(`data.0.url`, where numbers count in lists). Services that answer with a ticket have `poll`:

    poll: {url: polling_url, status: status, done: [Ready], refused: [Content Moderated],
           failed: [Error], every: 1.0}

`url` is where the first answer has the address that is asked again, and `answer` is read from the
last one. Keys belong into the environment, never into this file: it is recorded with the run.
"""

import json
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from idbench.methods.common.yaml_text import read_yaml
from idbench.methods.protocol import Kind

PACKAGE = "idbench.methods.wrappers"
BUILT_IN = ("openai",)

HostedSource = Literal[
    "prompt",  # the instruction of an edit, else the prompt
    "model",  # the method's argument
    "size",  # "1024x1024"
    "width",
    "height",
    "seed",
    "image_files",  # every picture as a file of a multipart body
    "image_file",  # the first one
    "image_base64",  # the first one as text
    "image_data_url",  # the first one as "data:image/png;base64,..."
    "images_base64",  # a list
    "images_data_url",  # a list
]
PICTURES = frozenset(
    {
        "image_files",
        "image_file",
        "image_base64",
        "image_data_url",
        "images_base64",
        "images_data_url",
    }
)

# Upper case, as is the custom, so that a key that is given in place of its name is refused.
KEY_ENV = r"^([A-Z][A-Z0-9_]*)?$"

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One kind of request to the service."""

    __pydantic_config__ = _STRICT

    path: str
    inputs: dict[str, HostedSource]
    body: Literal["json", "multipart"] = "json"
    constants: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Where the image is. "url" is fetched, "bytes" says that the body is the image itself.

    `url` is where some servers put an address in its place.
    """

    __pydantic_config__ = _STRICT

    image: str = ""
    encoding: Literal["base64", "url", "bytes"] = "base64"
    url: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signs:
    """How the service says something: one of `codes` at the place `code`, with such a status."""

    __pydantic_config__ = _STRICT

    statuses: tuple[int, ...] = (400,)
    code: str = "error.code"
    codes: tuple[str, ...] = ()

    def seen(self, status: int, document: Any) -> bool:
        """Whether an answer says it."""
        return status in self.statuses and at_path(document, self.code) in self.codes


@dataclass(frozen=True, kw_only=True, slots=True)
class Poll:
    """How an answer is waited for."""

    __pydantic_config__ = _STRICT

    url: str
    status: str
    done: tuple[str, ...]
    failed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    every: Annotated[float, Field(gt=0)] = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HostedMapping:
    """What the module's docstring describes.

    `refusals` are recorded as misses; `exhausted` says that there is no money or quota left, and
    stops the run. `sizes` are the (width, height) that the service can make; the one nearest in
    shape and area is asked for, and the image cropped and resized to the size that the request
    states. Without `sizes`, sizes go through as they are.
    """

    __pydantic_config__ = _STRICT

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    base_url: str
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]
    answer: Answer
    summary: str = ""
    key_env: Annotated[str, Field(pattern=KEY_ENV)] = ""
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    text: Call | None = None
    pictures: Call | None = None
    refusals: Signs = field(default_factory=Signs)
    exhausted: Signs = field(default_factory=Signs)
    idempotency_header: str = ""
    poll: Poll | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    price_per_image: Annotated[float, Field(ge=0)] = 0.0
    deterministic: bool = False
    max_people: Annotated[int, Field(ge=1)] = 1


def read_mapping(name: str) -> HostedMapping:
    """The mapping of a name of `BUILT_IN` or of a YAML file.

    Raises:
        LookupError: If there is no mapping of this name.
        FileNotFoundError: If there is no such file.
        ValueError: If a key is unknown, missing or of a wrong type; the message names it.
    """
    if name in BUILT_IN:
        text = files(PACKAGE).joinpath(f"{name}.yaml").read_text("utf-8")
    elif name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise FileNotFoundError(f"there is no mapping {name}")
        text = Path(name).read_text("utf-8")
    else:
        raise LookupError(
            f"unknown service {name!r}; known: {', '.join(BUILT_IN)}; or the path of a YAML "
            "mapping, or the URL of an OpenAI-compatible service"
        )
    try:
        document = read_yaml(text)
        mapping = TypeAdapter(HostedMapping).validate_json(json.dumps(document))
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is not YAML: {error}") from error
    except ValidationError as error:
        lines = [
            f"{name}: {'.'.join(map(str, entry['loc']))}: {entry['msg']}"
            for entry in error.errors()
        ]
        # Without the cause: pydantic's message repeats values, which may be a misplaced key.
        raise ValueError("\n".join(lines)) from None
    faults = list(_contradictions(mapping))
    if faults:
        raise ValueError("\n".join(f"{name}: {fault}" for fault in faults))
    return mapping


def _contradictions(mapping: HostedMapping) -> list[str]:
    faults = []
    if mapping.text is None and mapping.pictures is None:
        faults.append("one of text and pictures is needed")
    if mapping.answer.encoding != "bytes" and not mapping.answer.image:
        faults.append(f"answer.image is needed for {mapping.answer.encoding}")
    for name in ("text", "pictures"):
        call: Call | None = getattr(mapping, name)
        if call is None:
            continue
        sent = set(call.inputs.values())
        if name == "text" and sent & PICTURES:
            faults.append(f"text.inputs: {', '.join(sorted(sent & PICTURES))} is for pictures")
        if name == "pictures" and not sent & PICTURES:
            faults.append("pictures.inputs sends no picture")
        if call.body == "json" and sent & {"image_file", "image_files"}:
            faults.append(f"{name}.inputs: files need body: multipart")
    return faults


def at_path(document: Any, path: str) -> Any:
    """What lies at a path with dots in an answer; None where there is nothing."""
    for step in path.split("."):
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and step.isdecimal() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    return document
