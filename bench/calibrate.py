"""Runs the metamorphic checks of the metrics on photographs: changes, scores and judges them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idbench.columns import ColumnName
from idbench.metrics.calibration import Check, Judgement, Unchanged, Value, judge
from idbench.metrics.calibration_checks import checks
from idbench.metrics.calibration_images import TRANSFORMS, beside_larger, side_by_side
from idbench.metrics.protocol import (
    Extractor,
    Features,
    Item,
    Metric,
    Missing,
    MissingValueError,
    Observation,
    Role,
    Subject,
)
from idbench.metrics.registry import (
    build_extractor,
    extractor_order,
    missing_requirements,
    resolve,
)

Pixels = NDArray[np.uint8]

# A prompt that fills CLIP's 75 tokens, and 80 more that say the opposite.
FULL_PROMPT = " ".join(
    ["a portrait of a smiling person in a bright studio with a plain background"] * 6
)
CONTRADICTION = " ".join(["an empty dark forest at night without anybody"] * 10)


# The scenario that is seen once among all others and once alone (check 21).
REPEATED = "roll 15"


@dataclass(frozen=True, kw_only=True, slots=True)
class Photograph:
    """A picture and what it shows, in words."""

    pixels: Pixels
    prompt: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What an observation is made of. The base image is the generated one (check 16)."""

    generated: Pixels
    references: tuple[Pixels, ...]
    prompt: str

    def items(self, role: Role, reads: str) -> list[Item]:
        """The inputs of a role, as an extractor reads them."""
        if role in ("prompt", "element"):
            return [Item(text=self.prompt)]
        images = self.references if role == "reference" else (self.generated,)
        text = self.prompt if reads == "image_text" else None
        return [Item(image=image, text=text) for image in images]


def scenes(
    photograph: Photograph, other: Photograph, further: Sequence[Photograph]
) -> dict[str, Scene]:
    """Every scenario of the checks.

    Args:
        photograph: One clear face.
        other: Another person.
        further: Pictures of other things, for the shuffled prompts; with the photograph they are
            the items whose prompts are exchanged.
    """
    pixels, prompt = photograph.pixels, photograph.prompt
    made = {
        name: Scene(generated=change(pixels), references=(pixels,), prompt=prompt)
        for name, change in TRANSFORMS.items()
    }
    made["swap"] = Scene(generated=other.pixels, references=(pixels,), prompt=prompt)
    crowd = beside_larger(pixels, other.pixels)
    made["crowd"] = Scene(generated=crowd, references=(pixels,), prompt=prompt)
    pair = side_by_side(pixels, other.pixels)
    made["pair"] = Scene(generated=pair, references=(pixels, other.pixels), prompt=prompt)
    made["pair exchanged"] = Scene(generated=pair, references=(other.pixels, pixels), prompt=prompt)
    made["full prompt"] = Scene(generated=pixels, references=(pixels,), prompt=FULL_PROMPT)
    made["contradicted prompt"] = Scene(
        generated=pixels, references=(pixels,), prompt=f"{FULL_PROMPT} {CONTRADICTION}"
    )
    items = [photograph, *further]
    for number, one in enumerate(items):
        following = items[(number + 1) % len(items)]
        for name, words in (("own prompts", one.prompt), ("shuffled prompts", following.prompt)):
            made[f"{name}/{number}"] = Scene(
                generated=one.pixels, references=(pixels,), prompt=words
            )
    return made


def runnable(wanted: Iterable[Check]) -> tuple[dict[str, tuple[Metric, str]], dict[str, list[str]]]:
    """Columns whose networks are here, with metric and variant, and what the others lack."""
    here: dict[str, tuple[Metric, str]] = {}
    absent: dict[str, list[str]] = {}
    for column in dict.fromkeys(check.column for check in wanted):
        (metric,) = resolve([column])
        name = ColumnName.parse(column).metric
        names = {name for of_role in metric.needs.values() for name in of_role}
        lacking = dict.fromkeys(
            line for each in sorted(names) for line in missing_requirements(each)
        )
        if lacking:
            absent[column] = list(lacking)
        else:
            here[column] = (metric, name.removeprefix(metric.info.name).lstrip("."))
    return here, absent


def calibrate(
    photograph: Photograph,
    other: Photograph,
    further: Sequence[Photograph] = (),
    *,
    columns: Sequence[str] = (),
    device: str = "cpu",
    dtype: str = "float32",
) -> list[Judgement]:
    """Judges every check, or those of some columns.

    Args:
        photograph: A picture of one person with a clear face.
        other: A picture of another person.
        further: Pictures of other things, for the checks that exchange prompts.
        columns: Names, or beginnings of names, of the columns to check; empty for all.
        device: Where the networks run.
        dtype: Their arithmetic.

    Raises:
        LookupError: If no check is of a column so named.
    """
    wanted = [
        check
        for check in checks()
        if not columns or any(check.column.startswith(name) for name in columns)
    ]
    if not wanted:
        known = ", ".join(sorted({check.column for check in checks()}))
        raise LookupError(f"no check of {', '.join(columns)}; known: {known}")
    here, _ = runnable(wanted)
    wanted += [
        Check(
            number=21,
            column=column,
            scenarios=(REPEATED, f"{REPEATED} alone"),
            expectation=Unchanged(1e-5),
        )
        for column in here
    ]
    asked = {name for check in wanted if check.column in here for name in check.scenarios}
    made = {
        name: scene
        for name, scene in scenes(photograph, other, further).items()
        if name.partition("/")[0] in asked
    }
    return judge(wanted, score_scenes(made, here, device=device, dtype=dtype))


def score_scenes(
    made: Mapping[str, Scene],
    columns: Mapping[str, tuple[Metric, str]],
    *,
    device: str = "cpu",
    dtype: str = "float32",
) -> dict[str, dict[str, Value]]:
    """Column to scenario to value; every network sees all scenes of a role in one call.

    Scenes named "own prompts/0", "own prompts/1" and so on also give their mean as "own prompts".
    """
    networks = _Networks([metric for metric, _ in columns.values()], device, dtype)
    found = networks.observe(made)
    found[f"{REPEATED} alone"] = networks.observe({REPEATED: made[REPEATED]})[REPEATED]
    values: dict[str, dict[str, Value]] = {}
    for column, (metric, variant) in columns.items():
        scored = {name: _value(metric, variant, seen) for name, seen in found.items()}
        for name in ("own prompts", "shuffled prompts"):
            parts = [value for key, value in scored.items() if key.startswith(f"{name}/")]
            scored[name] = _mean(parts)
        values[column] = scored
    return values


class _Networks:
    """The extractors that some metrics need, over scenes."""

    def __init__(self, metrics: Iterable[Metric], device: str, dtype: str) -> None:
        self._roles: dict[Role, list[str]] = {}
        for metric in metrics:
            for role, names in metric.needs.items():
                self._roles[role] = extractor_order(
                    list(dict.fromkeys([*self._roles.get(role, []), *names]))
                )
        every = extractor_order([name for names in self._roles.values() for name in names])
        self._extractors: dict[str, Extractor] = {
            name: build_extractor(name, device=device, dtype=dtype) for name in every
        }

    def observe(self, made: Mapping[str, Scene]) -> dict[str, Observation]:
        """Observations by scenario; every network sees all scenes of a role in one call."""
        features: dict[str, dict[Role, list[dict[str, Features | Missing]]]] = {
            name: {} for name in made
        }
        for role, extractors in self._roles.items():
            for scene in made:
                count = len(made[scene].items(role, "image"))
                features[scene][role] = [{} for _ in range(count)]
            for extractor in extractors:
                self._run(self._extractors[extractor], role, made, features)
        return {
            name: Observation(
                prompt=made[name].prompt,
                features={role: tuple(found) for role, found in of_roles.items()},
                subjects=_subjects(made[name]),
            )
            for name, of_roles in features.items()
        }

    def _run(
        self,
        extractor: Extractor,
        role: Role,
        made: Mapping[str, Scene],
        features: Mapping[str, Mapping[Role, Sequence[dict[str, Features | Missing]]]],
    ) -> None:
        places, items = [], []
        for name, scene in made.items():
            for index, item in enumerate(scene.items(role, extractor.reads)):
                known = features[name][role][index]
                lost = [known[n] for n in extractor.needs if isinstance(known[n], Missing)]
                if lost:
                    known[extractor.name] = lost[0]
                    continue
                needed: Any = {n: known[n] for n in extractor.needs}
                items.append(Item(image=item.image, text=item.text, features=needed))
                places.append((name, index))
        for (name, index), value in zip(places, extractor(items), strict=True):
            features[name][role][index][extractor.name] = value


def _subjects(scene: Scene) -> tuple[Subject, ...]:
    people = len(scene.references)
    return tuple(Subject(person=person) for person in range(people)) if people > 1 else ()


def _value(metric: Metric, variant: str, observation: Observation) -> Value:
    try:
        return metric(observation)[variant]
    except MissingValueError as error:
        return error.missing


def _mean(values: Sequence[Value]) -> Value:
    numbers = [value for value in values if not isinstance(value, Missing)]
    if len(numbers) < len(values) or not numbers:
        return next((v for v in values if isinstance(v, Missing)), Missing("no_image"))
    return float(np.mean(numbers))
