"""A request as JSON and PNG files: what a program in another environment is given."""

from pathlib import Path

from PIL import Image

from idbench.methods.protocol import Edit, Reference, Request


def written(request: Request, folder: Path, key: str) -> dict[str, object]:
    """Writes the images of a request into `folder` and returns the rest as JSON values.

    File names begin with `key`, which is unique in the folder. "output" names the file to write.
    """
    return {
        "case_id": request.case_id,
        "alias": request.alias,
        "sample": request.sample,
        "seed": request.seed,
        "prompt": request.prompt,
        "kind": request.kind,
        "width": request.width,
        "height": request.height,
        "references": [
            _reference(reference, folder / f"{key}-reference-{index}.png")
            for index, reference in enumerate(request.references)
        ],
        "people": [
            {
                "person": person.person,
                "expression": person.expression,
                "orientation": person.orientation,
                "box": person.box,
            }
            for person in request.people
        ],
        "edit": None if request.edit is None else _edit(request.edit, folder, key),
        "distractor": None
        if request.distractor is None
        else _reference(request.distractor, folder / f"{key}-distractor.png"),
        "output": str(folder / f"{key}.png"),
    }


def _reference(reference: Reference, path: Path) -> dict[str, object]:
    return {
        "image": _saved(reference.image, path),
        "sha256": reference.sha256,
        "role": reference.role,
        "person": reference.person,
        "class_word": reference.class_word,
        "gender": reference.gender,
        "face_box": reference.face_box,
    }


def _edit(edit: Edit, folder: Path, key: str) -> dict[str, object]:
    return {
        "original": _saved(edit.original, folder / f"{key}-original.png"),
        "edited": _saved(edit.edited, folder / f"{key}-edited.png"),
        "instruction": edit.instruction,
        "elements": [
            {
                "text": element.text,
                "mask": None
                if element.mask is None
                else _saved(element.mask, folder / f"{key}-mask-{index}.png"),
                "person": element.person,
            }
            for index, element in enumerate(edit.elements)
        ],
        "faces": [
            {
                "person": face.person,
                "original_box": face.original_box,
                "edited_box": face.edited_box,
                "restore": face.restore,
            }
            for face in edit.faces
        ],
    }


def _saved(image: Image.Image, path: Path) -> str:
    image.save(path, compress_level=1)  # read once and removed
    return str(path)
