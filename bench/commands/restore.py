"""`idbench restore`: gives the people of an edited image their own faces back (EditedID)."""

import argparse
import io
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from idbench.methods.editedid.method import EditedID
    from idbench.methods.editedid.multi_face import Restoration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench restore`."""
    add = parser.add_argument
    add("--original", type=Path, required=True, metavar="FILE", help="image with the true faces")
    add("--edited", type=Path, required=True, metavar="FILE", help="what an editor made of it")
    add("--out", type=Path, required=True, metavar="FILE.png", help="where the result goes")
    add(
        "--keep",
        action="append",
        default=[],
        metavar="ELEMENT",
        help="what the edit brought and is to stay, such as glasses; may be repeated",
    )
    add(
        "--mask",
        action="append",
        default=[],
        type=_element_file,
        metavar="ELEMENT=FILE",
        help="where a kept element is, white on black; without it a face parser looks for it",
    )
    add(
        "--identity",
        action="append",
        metavar="ELEMENT",
        help="what to take from the original (default face); may be repeated",
    )
    add(
        "--identity-mask",
        action="append",
        default=[],
        type=_element_file,
        metavar="ELEMENT=FILE",
        help="where such an element is in the original",
    )
    add(
        "--box",
        action="append",
        default=[],
        type=_box,
        metavar="X0,Y0,X1,Y1",
        help="a face, in pixels of the edited image, at the same place in both; may be repeated",
    )
    add(
        "--pair",
        action="append",
        type=_pair,
        metavar="O:E",
        help="face O of the original is face E of the edited image, counted from 0 at the left",
    )
    add("--steps", type=int, default=6, metavar="N", help="diffusion steps (default 6)")
    add("--fast", action="store_true", help="without null-text optimisation")
    add("--reconstructions", type=Path, metavar="DIR", help="also write crops and rebuilt crops")
    add("--restorer", metavar="MODULE:FUNCTION", help="sharpens the edited image first")
    add("--inpainter", metavar="MODULE:FUNCTION", help="smooths the edges of the faces")
    add("--seed", type=int, default=0, metavar="N", help="for the inpainter (default 0)")
    add("--base", metavar="FOLDER", help="Stable Diffusion 1.4 in diffusers' layout")
    add("--device", default="cpu", metavar="NAME", help="cpu (default), cuda, mps")
    add("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other parameter of the method editedid, such as detector=insightface, "
        "parser=farl or overlap=[0.3,0.7]",
    )


def run(args: argparse.Namespace) -> int:
    """Restores one image and says what was done.

    Raises:
        ValueError: If an argument or image cannot be used, or no face can be restored.
        OSError: If weights are absent or the result cannot be written.
    """
    unknown = sorted({name for name, _ in args.mask} - set(args.keep))
    if unknown:
        raise ValueError(f"--mask for {', '.join(unknown)}, which no --keep names")
    from PIL import Image

    from idbench.files import write_whole
    from idbench.methods.editedid.codec import decode, encode_images
    from idbench.methods.editedid.jobs import EditedElement, FacePlace, Job
    from idbench.metrics.images import read_rgb

    def image(path: Path) -> Image.Image:
        return Image.fromarray(read_rgb(path))

    method = _method(args)
    masks = {name: image(path).convert("L") for name, path in args.mask}
    job = Job(
        original=image(args.original),
        edited=image(args.edited),
        elements=tuple(EditedElement(text=text, mask=masks.get(text)) for text in args.keep),
        identity=tuple(args.identity or ("face",)),
        identity_masks=tuple((name, image(path).convert("L")) for name, path in args.identity_mask),
        places=tuple(FacePlace(person=i, edited_box=box) for i, box in enumerate(args.box)),
        pairs=tuple(args.pair) if args.pair else None,
        seed=args.seed,
    )
    (result,) = method.faces.restore(
        [job], method.config, reconstructions=args.reconstructions is not None
    )

    def write(path: Path, picture: Image.Image) -> None:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        write_whole(path, buffer.getvalue())

    write(args.out, result.image)
    if args.reconstructions is not None:
        for face, crop, rebuilt in zip(
            result.faces, result.crops, result.reconstructions, strict=True
        ):
            folder = args.reconstructions / f"face-{face.person}"
            write(folder / "original.png", face.pair.original)
            write(folder / "edited.png", face.pair.intermediate)
            write(folder / "original-rebuilt.png", rebuilt[0])
            write(folder / "edited-rebuilt.png", rebuilt[1])
            write(folder / "restored.png", crop)
    vae = method.faces.pipeline.vae
    print(_summary(result, args.out, lambda crop: decode(vae, encode_images(vae, [crop]))[0]))
    return 0


def _method(args: argparse.Namespace) -> "EditedID":
    from idbench.methods.editedid.method import EditedID
    from idbench.methods.parameters import bind

    settings: dict[str, Any] = {"num_inference_steps": args.steps}
    if args.fast:
        settings["null_mode"] = "prompt"
    if args.base is not None:
        settings["base"] = args.base
    for entry in args.set:
        key, sign, value = entry.partition("=")
        if not sign:
            raise ValueError(f"--set takes KEY=VALUE, got {entry!r}")
        settings[key] = value
    values = bind(EditedID, settings, method="editedid")
    for name in ("restorer", "inpainter"):
        target = getattr(args, name)
        if target is not None:
            values[name] = _function(target)
    return EditedID(**values, device=args.device, dtype=args.dtype)


def _summary(
    result: "Restoration", out: Path, roundtrip: Callable[["Image.Image"], "Image.Image"]
) -> str:
    import numpy as np

    from idbench.methods.editedid.stability import psnr

    lines = []
    for index, face in enumerate(result.faces):
        error = face.registration_error
        known = "one frame" if error is None else f"registered to {error:.1%} of the face"
        line = f"face {face.person}: {face.crop.side} px crop, {known}"
        if result.reconstructions:
            pairs = zip(
                result.reconstructions[index],
                (face.pair.original, face.pair.intermediate),
                strict=True,
            )
            values = [psnr(np.asarray(a), np.asarray(b)) for a, b in pairs]
            bound = psnr(np.asarray(roundtrip(face.pair.original)), np.asarray(face.pair.original))
            line += (
                f", rebuilt at {values[0]:.1f} dB (original) and {values[1]:.1f} dB (edited); "
                f"the autoencoder alone gives {bound:.1f} dB"
            )
        lines.append(line)
    lines += [f"left as it is: {reason}" for reason in result.skipped]
    return "\n".join([*lines, f"wrote {out}"])


def _function(target: str) -> Callable[..., Any]:
    module, colon, name = target.partition(":")
    if not colon:
        raise ValueError(f"a function is given as MODULE:FUNCTION, got {target!r}")
    try:
        function: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"no function {target!r}: {error}") from error
    return function


def _element_file(text: str) -> tuple[str, Path]:
    name, sign, path = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"expected ELEMENT=FILE, got {text!r}")
    return name, Path(path)


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(edge) for edge in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected X0,Y0,X1,Y1, got {text!r}") from error
    if x1 <= x0 or y1 <= y0:
        raise argparse.ArgumentTypeError(f"a box needs x0 < x1 and y0 < y1, got {text!r}")
    return x0, y0, x1, y1


def _pair(text: str) -> tuple[int, int]:
    try:
        original, edited = (int(number) for number in text.split(":"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected two face numbers O:E, got {text!r}") from error
    return original, edited
