"""What the gating decides over many prompts: how often the dictionary hits, and what grading does.

On long prompts nearly every one has some edit word. Binary intent is then close to a constant, and
acts as other bases would; graded intent still tells prompts apart.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from idbench.methods.flexid.intent import GRADED_FULL, IntentMode, IntentParser
from idbench.methods.flexid.lexicon import CATEGORIES
from idbench.methods.flexid.method import FlexID


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """Intent of many prompts.

    `values` has one intent per prompt for each mode; `categories` counts the prompts with a hit
    that counts in each, `negated` those whose every hit is negated.
    """

    values: dict[IntentMode, tuple[float, ...]]
    categories: Counter[str]
    negated: int

    @property
    def hit_rate(self) -> float:
        """Share of the prompts with binary intent 1."""
        return float(np.mean(self.values["binary"]))


def survey(method: FlexID, prompts: Sequence[str]) -> Survey:
    """Parses prompts with the method's dictionary in both modes.

    Raises:
        ValueError: If there are no prompts.
    """
    if not prompts:
        raise ValueError("there are no prompts to survey; give a suite with cases or a longer file")
    lexicon, lemmatizer = method.parser.lexicon, method.lemmatizer
    modes: tuple[IntentMode, ...] = get_args(IntentMode)
    intents = {
        mode: [IntentParser(lexicon, mode, lemmatizer)(prompt) for prompt in prompts]
        for mode in modes
    }
    return Survey(
        values={mode: tuple(i.value for i in found) for mode, found in intents.items()},
        categories=Counter(name for i in intents["binary"] for name in i.categories),
        negated=sum(bool(i.hits) and not i.value for i in intents["binary"]),
    )


def describe_survey(method: FlexID, prompts: Sequence[str]) -> str:
    """A table of both modes, for `idbench method survey`."""
    found = survey(method, prompts)
    gate = method.gate
    lines = [
        f"{len(prompts)} prompts, dictionary hits {100 * found.hit_rate:.0f} %"
        f" ({sum(found.values['binary']):.0f}); in {found.negated} all hits are negated",
        "categories: " + ", ".join(f"{name} {found.categories[name]}" for name in CATEGORIES),
        "",
        "intent         0    1/3    2/3      1   gamma_sem  gamma_vis   same weights",
    ]
    for mode, values in found.values.items():
        intent = np.array(values)
        counts = Counter(np.rint(intent * GRADED_FULL).astype(int).tolist())
        cells = "".join(f"{counts[level]:7d}" for level in range(GRADED_FULL + 1))
        up, down = 1 + gate.eta_up * intent.mean(), 1 - gate.eta_down * intent.mean()
        alike = max(counts.values()) / len(values)
        lines.append(f"{mode:<9}{cells}   {up:9.3f}  {down:9.3f}   {100 * alike:10.0f} %")
    lines.append("gamma: mean over prompts; same weights: prompts with the commonest intent")
    return "\n".join(lines)
