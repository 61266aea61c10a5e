"""Data of the reconfiguration stage: many pictures of each identity (section 3.3).

The folder contract of the official code: `{identity}/{name}.png` (or .jpg), the face prompt
`{name}.txt`, and the landmark map `{name}_landmark.png` (96 x 96, grey). KDEF has no prompts;
they follow from its file names, such as AF01ANS.JPG.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idbench.methods.dynamicid.faces import FaceAnalyser, choose_face
from idbench.methods.dynamicid.keypoints import FRAME_SIZE, MAP_SIZE, draw_landmarks

log = logging.getLogger(__name__)

PICTURES = {".png", ".jpg", ".jpeg"}
LANDMARK_SUFFIX = "_landmark"

KDEF_EXPRESSIONS = {
    "AF": "afraid",
    "AN": "angry",
    "DI": "disgusted",
    "HA": "happy",
    "NE": "neutral",
    "SA": "sad",
    "SU": "surprised",
}
KDEF_POSES = {
    "FL": "fully turned to the left",
    "FR": "fully turned to the right",
    "HL": "slightly turned to the left",
    "HR": "slightly turned to the right",
    "S": "front view",
}
KDEF_NAME = re.compile(
    rf"[AB][FM]\d\d({'|'.join(KDEF_EXPRESSIONS)})({'|'.join(KDEF_POSES)})", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Portrait:
    """One picture of an identity, its face prompt and its landmark map."""

    image: Path
    prompt: str
    landmarks: Path


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity and its usable pictures in the order of their names."""

    name: str
    portraits: tuple[Portrait, ...]


def kdef_prompt(name: str) -> str | None:
    """The face prompt of a KDEF file name without suffix, or None if it is no such name.

    By code and not by position as in the official code, which miscounts people with fewer than 35
    pictures.
    """
    match = KDEF_NAME.fullmatch(name)
    if match is None:
        return None
    expression, pose = (group.upper() for group in match.groups())
    return f"the expression is {KDEF_EXPRESSIONS[expression]}, the face is {KDEF_POSES[pose]}"


def read_identities(folder: Path, *, kdef: bool = False) -> list[Identity]:
    """The identities of a folder that have at least two usable pictures.

    Pictures without landmark map or prompt are left out and counted in the log.

    Raises:
        ValueError: If no identity is usable.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder of identities")
    identities, left_out = [], 0
    for subfolder in sorted(path for path in folder.iterdir() if path.is_dir()):
        pictures = sorted(
            path
            for path in subfolder.iterdir()
            if path.suffix.lower() in PICTURES and not path.stem.endswith(LANDMARK_SUFFIX)
        )
        portraits = [found for path in pictures if (found := _portrait(path, kdef)) is not None]
        left_out += len(pictures) - len(portraits)
        if len(portraits) >= 2:
            identities.append(Identity(subfolder.name, tuple(portraits)))
    if left_out:
        log.warning("%s: %d pictures have no landmarks or no prompt", folder, left_out)
    if not identities:
        raise ValueError(
            f"{folder}: no identity has two pictures NAME.png with NAME.txt and "
            f"NAME{LANDMARK_SUFFIX}.png (KDEF: names such as AF01ANS.JPG instead of NAME.txt)"
        )
    return identities


def _portrait(path: Path, kdef: bool) -> Portrait | None:
    landmarks = path.with_name(f"{path.stem}{LANDMARK_SUFFIX}.png")
    text = path.with_suffix(".txt")
    if kdef:
        prompt = kdef_prompt(path.stem)
    else:
        prompt = text.read_text(encoding="utf-8").strip() if text.is_file() else None
    if prompt is None or not landmarks.is_file():
        return None
    return Portrait(path, prompt, landmarks)


def read_landmarks(path: Path) -> NDArray[np.uint8]:
    """A landmark map, (96, 96) uint8.

    Raises:
        ValueError: If the picture has another size.
    """
    with Image.open(path) as opened:
        image = np.asarray(opened.convert("L"))
    if image.shape != (MAP_SIZE, MAP_SIZE):
        raise ValueError(f"{path}: must be {MAP_SIZE} x {MAP_SIZE} pixels, got {image.shape[::-1]}")
    return image


def write_landmarks(picture: Path, analyser: FaceAnalyser) -> Path:
    """Finds the landmarks of a picture at 512 x 512 and writes their map beside it.

    Raises:
        NoFaceError: If there is no face.
    """
    with Image.open(picture) as opened:
        frame = opened.convert("RGB").resize((FRAME_SIZE,) * 2, Image.Resampling.BICUBIC)
    face = choose_face(analyser(np.asarray(frame)))
    target = picture.with_name(f"{picture.stem}{LANDMARK_SUFFIX}.png")
    Image.fromarray(draw_landmarks(face.landmarks)).save(target)
    return target
