"""A program that answers `idbench` from an environment of its own; idbench is not needed there.

Replace `load` and `make`. As it is, it works: it tints the reference by the seed and the prompt.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import zlib
from typing import Any

from PIL import Image

NAME = "template"
KINDS = ["single_id"]  # of requests that it answers
MAX_PEOPLE = 1  # in one image
# What can move a pixel and cannot be seen in the command line: steps, sizes, files by sha256.
FINGERPRINT = {"version": 1}


class RefusedError(Exception):
    """Why there is no image, as a slug such as "no_face"; it is counted, not repaired."""


def load(device: str) -> Any:
    """The model, loaded once, when the first request comes."""
    return {"device": device, "strength": 0.3}


def make(model: Any, request: dict[str, Any]) -> Image.Image:
    """One picture (PIL) for a request.

    The request has "prompt", "seed", "width" and "height" (null: yours to choose), "kind",
    "references" (each with "image", a path, "person", "class_word", "face_box"), "people" and, for
    edits, "edit" with "original", "edited" (paths) and "instruction". All randomness must come
    from "seed".
    """
    edit = request["edit"]
    if edit is None and not request["references"]:
        raise RefusedError("no_reference")
    path = edit["original"] if edit else request["references"][0]["image"]
    picture = Image.open(path).convert("RGB")
    picture = picture.resize(
        (request["width"] or picture.width, request["height"] or picture.height)
    )
    word = zlib.crc32(request["prompt"].encode("utf-8"))
    colour = (request["seed"] % 256, word % 256, word // 256 % 256)
    return Image.blend(picture, Image.new("RGB", picture.size, colour), model["strength"])


def main() -> None:
    """Says hello, then answers one line with one line until its input ends."""
    # Answers have standard output to themselves: what libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    abilities = {"kinds": KINDS, "max_people": MAX_PEOPLE}
    say({"idbench": 1, "name": NAME, "capabilities": abilities, "fingerprint": FINGERPRINT})
    model = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if model is None:
                model = load(os.environ.get("IDBENCH_DEVICE", "cpu"))
            make(model, request).save(request["output"])
            say({"id": request["id"], "ok": True})
        except RefusedError as refusal:
            say({"id": request["id"], "ok": False, "reason": str(refusal)})
        except Exception:  # one request must not cost the others their images
            detail = traceback.format_exc(limit=3)
            say({"id": request["id"], "ok": False, "reason": "error", "detail": detail})


if __name__ == "__main__":
    main()
