"""CelebA as {file, identity, attributes}, from any of its layouts, and who is chosen from it."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from idbench.prompts.acquisition.layouts import celeba_file
from idbench.prompts.builders.collecting import PartialSourceError
from idbench.prompts.strict import ManifestError, read_utf8
from idbench.prompts.tables import table

USED_ATTRIBUTES = ("Male", "Blurry", "Eyeglasses", "Wearing_Hat")
DYNAMICID_IDENTITIES = 500
_SPOILED = frozenset({"Blurry", "Eyeglasses", "Wearing_Hat"})
_FILE = re.compile(r"[A-Za-z0-9_-]+\.(jpg|png)")


@dataclass(frozen=True, kw_only=True, slots=True)
class CelebA:
    """The index: files of each identity in sorted order, and which used attributes a file has."""

    files: Mapping[int, tuple[str, ...]]
    attributes: Mapping[str, frozenset[str]]

    def male(self, file: str) -> bool:
        """Whether the attribute `Male` is set."""
        return "Male" in self.attributes[file]


def read_celeba(root: Path) -> CelebA:
    """Reads the two text files of CelebA.

    Raises:
        PartialSourceError: If one is missing.
        ManifestError: If a line is malformed, naming file and line, or the files disagree.
    """
    attributes = dict(_attribute_rows(_text_file(root, "list_attr_celeba.txt")))
    identities: dict[int, list[str]] = {}
    path = _text_file(root, "identity_CelebA.txt")
    for number, line in enumerate(read_utf8(path).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not _FILE.fullmatch(words[0]) or not words[1].isdecimal():
            raise ManifestError(
                f"{path}, line {number}: expected '<file> <identity>', got {line!r}"
            )
        if words[0] not in attributes:
            raise ManifestError(f"{path}, line {number}: {words[0]} has no attributes")
        identities.setdefault(int(words[1]), []).append(words[0])
    return CelebA(
        files={identity: tuple(sorted(names)) for identity, names in identities.items()},
        attributes=attributes,
    )


def _text_file(root: Path, name: str) -> Path:
    path = celeba_file(root, name)
    if path is None:
        raise PartialSourceError(
            f"{name} is missing below {root}; look with: idbench data verify celeba"
        )
    return path


def _attribute_rows(path: Path) -> Iterator[tuple[str, frozenset[str]]]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        count = stream.readline().strip()
        names = stream.readline().split()
        absent = [name for name in USED_ATTRIBUTES if name not in names]
        if absent or not count.isdecimal():
            raise ManifestError(
                f"{path}: expected the count, then a line with the attributes "
                f"{', '.join(USED_ATTRIBUTES)}"
            )
        columns = [(name, names.index(name) + 1) for name in USED_ATTRIBUTES]
        rows = 0
        for number, line in enumerate(stream, start=3):
            words = line.split()
            if not words:
                continue
            if len(words) != len(names) + 1 or any(words[i] not in ("1", "-1") for _, i in columns):
                raise ManifestError(
                    f"{path}, line {number}: expected a file and {len(names)} values of 1 or -1"
                )
            rows += 1
            yield words[0], frozenset(name for name, i in columns if words[i] == "1")
    if rows != int(count):
        raise ManifestError(f"{path}: the first line says {count} files, there are {rows}")


def image_folder(root: Path, crop: str) -> str | None:
    """The folder of images, relative to the root; None where it is absent.

    `crop` is `wild`, `align` or `auto`, which is wild where it is present, else align.
    """
    wild = ("Img/img_celeba", "img_celeba")
    align = ("Img/img_align_celeba", "img_align_celeba")
    candidates = {"wild": wild, "align": align, "auto": wild + align}[crop]
    return next((folder for folder in candidates if (root / folder).is_dir()), None)


def crop_of(folder: str) -> str:
    """`align` or `wild`: what the pictures of a folder show; part of what a suite is."""
    return "align" if "align" in folder else "wild"


def dynamicid_people(celeba: CelebA) -> Iterator[tuple[int, str]]:
    """Identities with their reference file, in the order of DynamicID suites.

    The paper says "500 identities, random". Here identities stand in the order of a hash, and an
    identity without a sharp, bare-eyed, bare-headed picture is passed over; among its pictures the
    one with the smallest hash of its name is taken. Text files alone decide.
    """
    order = sorted(celeba.files, key=lambda identity: _hash(f"idbench/dynamicid/1:{identity}"))
    for identity in order:
        usable = [name for name in celeba.files[identity] if not celeba.attributes[name] & _SPOILED]
        if usable:
            yield identity, min(usable, key=_hash)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def chosen_identities(root: Path, count: int = DYNAMICID_IDENTITIES) -> set[int]:
    """The identities that the suites use: the first of DynamicID and those of FastComposer."""
    people = dynamicid_people(read_celeba(root))
    chosen = {identity for (identity, _), _ in zip(people, range(count), strict=False)}
    return chosen | {int(row["celeba_folder"]) for row in table("fastcomposer_subjects")}
