"""What a hosted model is sent for a request."""

import base64
import copy
import io
import json
from collections.abc import Sequence
from typing import Any

from PIL import Image

from idbench.methods.protocol import Request
from idbench.methods.wrappers.hosted_mapping import Call
from idbench.methods.wrappers.transport import multipart

Sizes = Sequence[tuple[int, int]]


def pictures_of(request: Request) -> list[Image.Image]:
    """The image to edit, else the references in person order."""
    if request.kind == "edit_restoration":
        return [] if request.edit is None else [request.edit.original]
    return [reference.image for reference in request.references]


def body_of(
    request: Request, pictures: Sequence[Image.Image], *, call: Call, model: str, sizes: Sizes
) -> tuple[bytes, str]:
    """The body of a call and its content type."""
    pngs = [_png(picture) for picture in pictures]
    values = _values(request, pngs, asked_size(request, pictures, sizes))
    values["model"] = model
    fields: dict[str, Any] = copy.deepcopy(call.constants)
    files: list[tuple[str, str, bytes]] = []
    for name, source in call.inputs.items():
        if source in ("image_file", "image_files"):
            chosen = pngs[:1] if source == "image_file" else pngs
            files += [(name, f"{index}.png", png) for index, png in enumerate(chosen)]
        elif values[source] is not None:
            _put(fields, name, values[source])
    if call.body == "multipart":
        return multipart(fields, files)
    return json.dumps(fields).encode(), "application/json"


def asked_size(
    request: Request, pictures: Sequence[Image.Image], sizes: Sizes
) -> tuple[int | None, int | None]:
    """Width and height to ask for: those of the request, or the nearest of `sizes`.

    A request that states none gets the first of `sizes`; an edit the one nearest to its image.
    """
    width, height = request.width, request.height
    if not sizes:
        return width, height
    if not (width and height):
        if request.kind != "edit_restoration" or not pictures:
            return sizes[0]
        width, height = pictures[0].size
    shape, area = width / height, width * height

    def distance(size: tuple[int, int]) -> tuple[float, int]:
        return abs(size[0] / size[1] - shape), abs(size[0] * size[1] - area)

    return min(sizes, key=distance)


def _values(
    request: Request, pngs: Sequence[bytes], size: tuple[int | None, int | None]
) -> dict[str, Any]:
    width, height = size
    texts = [base64.b64encode(png).decode() for png in pngs]
    urls = [f"data:image/png;base64,{text}" for text in texts]
    edit = request.edit.instruction if request.edit is not None else None
    return {
        "prompt": edit if request.kind == "edit_restoration" else request.prompt,
        "size": f"{width}x{height}" if width and height else "auto",
        "width": width,
        "height": height,
        "seed": request.seed,
        "image_base64": texts[0] if texts else None,
        "image_data_url": urls[0] if urls else None,
        "images_base64": texts or None,
        "images_data_url": urls or None,
    }


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _put(fields: dict[str, Any], name: str, value: Any) -> None:
    head, dot, rest = name.partition(".")
    if dot:
        _put(fields.setdefault(head, {}), rest, value)
    else:
        fields[head] = value
