"""The files of a recipe: where they lie, what is absent, and what their bytes are."""

from collections.abc import Mapping
from pathlib import Path

from idbench.methods.common.locations import digest_of_files
from idbench.methods.common.weight_sources import MissingWeightsError
from idbench.methods.recipes.recipe import Recipe, Repository


def places(recipe: Recipe, weights: Path, chosen: Mapping[str, Path]) -> dict[str, Path]:
    """The folder of each key of `recipe.weights`.

    Args:
        recipe: The recipe.
        weights: Folder of all folders.
        chosen: Folders that lie elsewhere, by key.

    Raises:
        ValueError: If `chosen` has a key that the recipe does not have.
    """
    unknown = chosen.keys() - recipe.weights.keys()
    if unknown:
        raise ValueError(
            f"folders has {', '.join(sorted(unknown))}; recipe {recipe.name} has "
            f"{', '.join(recipe.weights)}"
        )
    return {
        key: Path(chosen.get(key) or weights / source.path)
        for key, source in recipe.weights.items()
    }


def present(recipe: Recipe, folders: Mapping[str, Path]) -> dict[str, list[Path]]:
    """The files that each entry of `weights` matches, by key, sorted.

    Raises:
        MissingWeightsError: If a folder is absent or a pattern matches nothing; the message has
            the command that gets the files.
    """
    found = {}
    for key, source in recipe.weights.items():
        files: set[Path] = set()
        for pattern in source.files:
            matched = [path for path in folders[key].glob(pattern) if path.is_file()]
            if not matched:
                raise MissingWeightsError(how_to_get(recipe, key, folders[key], pattern))
            files.update(matched)
        found[key] = sorted(files)
    return found


def digests(recipe: Recipe, folders: Mapping[str, Path]) -> dict[str, str]:
    """sha256 of the names and bytes of the files that each entry of `weights` matches.

    Raises:
        MissingWeightsError: If files are absent; the message says how to get them.
    """
    matched = present(recipe, folders)
    return {key: digest_of_files(folders[key], matched[key]) for key in matched}


def how_to_get(recipe: Recipe, key: str, folder: Path, pattern: str) -> str:
    """What to do about files of a recipe that are absent."""
    source = recipe.weights[key]
    parts = [f"recipe {recipe.name}: {folder} has no {pattern}", _route(source, folder)]
    if source.note:
        parts.append(source.note)
    parts.append(f'or say where they are with folders={{"{key}": "PATH"}}')
    return "; ".join(parts)


def _route(source: Repository, folder: Path) -> str:
    if source.repository.count("/") != 1:  # not on the hub of models
        return f"get {', '.join(source.files)} from {source.repository} into {folder}"
    include = " ".join(f"'{pattern}'" for pattern in source.files)
    return (
        f"hf download {source.repository} --revision {source.revision} --local-dir {folder} "
        f"--include {include}"
    )
