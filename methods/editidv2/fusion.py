"""Offline fusion of cross-attention weights (EditIDv2, equation 12)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from idbench.methods.common.files import write_with
from idbench.methods.common.locations import digest
from idbench.methods.common.state_dicts import describe_keys

Strategy = Literal["weighted_average", "add", "multiply"]

CA_PREFIX = "pulid_ca."
RECIPE_KEY = "idbench.fusion"  # in the metadata of a fused file
_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Variant:
    """A file, its tensors and the metadata of its header."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_variant(path: Path) -> Variant:
    """Reads a safetensors file with its metadata."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata() or {})
    return Variant(path, load_file(path), metadata)


def official_merge(a: Tensor, b: Tensor, strategy: Strategy, alpha: float) -> Tensor:
    """One tensor of the authors' merge script, in their order of operations.

    `b` is cast to the dtype of `a`, and everything is computed in that dtype.
    """
    b = b.to(a.dtype)
    if strategy == "weighted_average":
        return (1 - alpha) * a + alpha * b
    if strategy == "add":
        return a + alpha * b
    return a * (1 + alpha * b)


def fuse_officially(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], strategy: Strategy, alpha: float
) -> dict[str, Tensor]:
    """What the authors' merge script makes of two state dicts.

    It works on all keys, the ID encoder's and the norms' included: with equal encoders "add"
    returns (1 + alpha) times the encoder, which breaks the model. Use `fuse` to make models; this
    is here to reproduce files that were made with the script.

    Args:
        a: The first file; its tensor is kept where shapes differ.
        b: The second file; keys of one file alone are copied.
        strategy: The script suggests an `alpha` of .3-.7 for "weighted_average", .1-.3 for "add"
            and .1-.5 for "multiply".
        alpha: In [0, 1].

    Raises:
        ValueError: If the strategy is unknown or `alpha` is out of range.
    """
    if strategy not in get_args(Strategy):
        known = ", ".join(get_args(Strategy))
        raise ValueError(f"unknown strategy {strategy!r}; known: {known}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    merged = {}
    for key in [*a, *(key for key in b if key not in a)]:
        if key in a and key in b and a[key].shape == b[key].shape:
            merged[key] = official_merge(a[key], b[key], strategy, alpha)
        else:
            merged[key] = a[key] if key in a else b[key]
    return merged


def fuse(
    variants: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float],
    *,
    base: Mapping[str, Tensor] | None = None,
    prefix: str = CA_PREFIX,
) -> dict[str, Tensor]:
    """W = sum of w_i W_i over the cross-attention weights (equation 12).

    Sums are taken in float32 and cast once to the dtype of the first variant. Everything outside
    `prefix` comes from the first variant that has it and must be equal in all that do.

    Args:
        variants: State dicts in the PuLID layout, all with the same keys under `prefix`.
        weights: One coefficient each. They must sum to 1 unless `base` is given.
        base: Makes it W_base + sum of w_i (W_i - W_base), for any sum of coefficients.
        prefix: The keys that are fused.

    Raises:
        ValueError: If counts or keys differ, the sum is wrong, or other keys are not equal.
    """
    if not variants or len(variants) != len(weights):
        raise ValueError(f"{len(variants)} variants need as many weights, got {len(weights)}")
    if base is None and abs(sum(weights) - 1) > _SUM_TOLERANCE:
        raise ValueError(f"weights must sum to 1 without a base, got {sum(weights):g}")
    keys = {key for key in variants[0] if key.startswith(prefix)}
    if not keys:
        raise ValueError(f"no keys start with {prefix!r}")
    for number, variant in enumerate([*variants, *([base] if base is not None else [])]):
        if differing := keys ^ {key for key in variant if key.startswith(prefix)}:
            raise ValueError(f"file {number} differs in keys: {describe_keys(differing)}")
    fused = _shared_tensors(variants, prefix)
    # one file alone is returned bit for bit: 1 * W + 0 * V is W only where V is finite
    used = [(w, v) for w, v in zip(weights, variants, strict=True) if w != 0]
    for key in sorted(keys):
        terms = [
            w * (v[key].float() if base is None else v[key].float() - base[key].float())
            for w, v in used
        ]
        if base is not None:
            terms.insert(0, base[key].float())
        fused[key] = reduce(torch.add, terms).to(variants[0][key].dtype)
    return fused


def _shared_tensors(variants: Sequence[Mapping[str, Tensor]], prefix: str) -> dict[str, Tensor]:
    shared: dict[str, Tensor] = {}
    for number, variant in enumerate(variants):
        for key, tensor in variant.items():
            if key.startswith(prefix):
                continue
            if key in shared and not torch.equal(shared[key], tensor.to(shared[key].dtype)):
                raise ValueError(
                    f"file {number}: {key} differs from an earlier file; only keys under "
                    f"{prefix!r} are fused, so the rest must be equal"
                )
            shared.setdefault(key, tensor)
    return shared


def fuse_files(
    files: Sequence[Path], weights: Sequence[float], output: Path, *, base: Path | None = None
) -> Path:
    """Fuses files with `fuse` and writes the result with its recipe.

    The header's key `idbench.fusion` holds the `recipe`.

    Raises:
        ValueError: As `fuse`, with the names of the files.
    """
    variants = [read_variant(path) for path in files]
    try:
        fused = fuse(
            [variant.tensors for variant in variants],
            weights,
            base=load_file(base) if base is not None else None,
        )
    except ValueError as error:
        raise ValueError(f"{', '.join(map(str, files))}: {error}") from error
    metadata = {**variants[0].metadata, RECIPE_KEY: recipe(files, weights, base)}
    write_with(output, lambda path: save_file(fused, path, metadata))
    return output


def recipe(files: Sequence[Path], weights: Sequence[float], base: Path | None = None) -> str:
    """What a fused file says of its making, as JSON: name, sha256 and coefficient of each file."""
    parts = [
        {"name": path.name, "sha256": digest(path), "weight": weight}
        for path, weight in zip(files, weights, strict=True)
    ]
    start = {"name": base.name, "sha256": digest(base)} if base is not None else None
    return json.dumps({"strategy": "linear", "files": parts, "base": start}, sort_keys=True)


def is_fusion(path: Path, files: Sequence[Path], weights: Sequence[float]) -> bool:
    """Whether a file is there and was fused from these files with these coefficients."""
    if not path.is_file():
        return False
    with safe_open(path, "pt") as file:
        return bool((file.metadata() or {}).get(RECIPE_KEY) == recipe(files, weights))


def fuse_files_officially(
    a: Path, b: Path, strategy: Strategy, alpha: float, output: Path, *, timestamp: str
) -> Path:
    """Merges two files as the authors' script does, metadata included.

    Args:
        a: First file.
        b: Second file.
        strategy: See `fuse_officially`.
        alpha: In [0, 1].
        output: Where to write.
        timestamp: Goes into the header as `merge_timestamp`, as there.
    """
    first, second = read_variant(a), read_variant(b)
    merged = fuse_officially(first.tensors, second.tensors, strategy, alpha)
    metadata = {
        **second.metadata,
        **first.metadata,
        "merged_by": "idbench",
        "merge_timestamp": timestamp,
        "source_file1": a.name,
        "source_file2": b.name,
        "strategy": strategy,
        "alpha": repr(alpha),
    }
    write_with(output, lambda path: save_file(merged, path, metadata))
    return output
