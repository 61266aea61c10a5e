"""A method built by name in a fresh interpreter, as the workers of a run do it.

`python -m idbench.methods.conformance.fresh_process FOLDER` reads FOLDER/question.json and the
portraits beside it, and writes FOLDER/fingerprint.json and FOLDER/answer.png.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from pydantic_core import to_jsonable_python

from idbench.methods.conformance.images import ImageChecks, difference, largest_difference
from idbench.methods.conformance.outcome import FailedError
from idbench.methods.conformance.sample_requests import Portrait
from idbench.methods.protocol import Method
from idbench.methods.registry import build

SECONDS = 1800.0  # until the interpreter has answered, loading of weights included


def same_elsewhere(
    method: Method,
    name: str,
    args: Mapping[str, object],
    pair: Sequence[Portrait],
    *,
    device: str,
    dtype: str,
    tolerance: int,
) -> str:
    """Builds the method in a fresh interpreter and compares fingerprint and image.

    Returns:
        A remark for people.

    Raises:
        FailedError: If the interpreter fails or its method is another one.
    """
    here = ImageChecks(method, pair, tolerance).first_image()
    with tempfile.TemporaryDirectory(prefix="idbench-") as temporary:
        folder = Path(temporary)
        question = {
            "name": name,
            "args": args,
            "device": device,
            "dtype": dtype,
            "face_boxes": [portrait.face_box for portrait in pair],
        }
        (folder / "question.json").write_text(json.dumps(to_jsonable_python(question)))
        for number, portrait in enumerate(pair):
            portrait.image.save(folder / f"{number}.png")
        command = [sys.executable, "-m", __name__, str(folder)]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            raise FailedError(f"no answer from a fresh interpreter in {SECONDS:g} s") from None
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
            raise FailedError(f"it cannot be built by name in a fresh interpreter: {last}")
        fingerprint = json.loads((folder / "fingerprint.json").read_text())
        if fingerprint != json.loads(json.dumps(dict(method.fingerprint()))):
            raise FailedError("in a fresh interpreter it has another fingerprint")
        with Image.open(folder / "answer.png") as there:
            if here.size != there.size or largest_difference(here, there) > tolerance:
                raise FailedError(
                    f"a fresh interpreter answers otherwise: {difference(here, there)}"
                )
    return "a fresh interpreter gives the same fingerprint and image"


def main(folder: Path) -> None:
    """Answers the question in `folder`."""
    question = json.loads((folder / "question.json").read_text())
    method = build(
        question["name"], question["args"], device=question["device"], dtype=question["dtype"]
    )
    pair = []
    for number, box in enumerate(question["face_boxes"]):
        with Image.open(folder / f"{number}.png") as image:
            pair.append(Portrait(image=image.convert("RGB"), face_box=tuple(box)))
    ImageChecks(method, pair, 0).first_image().save(folder / "answer.png")
    (folder / "fingerprint.json").write_text(json.dumps(dict(method.fingerprint())))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
