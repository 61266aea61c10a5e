"""Prompts of a face, and what the gate needs to know of their words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transformers import CLIPTokenizer

from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.gate import TokenSwap
from idbench.methods.editedid.word_alignment import (
    Bound,
    Tokens,
    align_tokens,
    phrase_tokens,
    word_windows,
)

# The paper's example is a face with glasses; other elements take their place.
ORIGINAL_PROMPT = "a photo of a face"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """Prompts and elements of one face.

    Every element is literal words of the prompt it is taken from and of the target.

    Attributes:
        original: Describes the original.
        intermediate: Describes the edited image.
        target: Describes the result.
        elements_o: Taken from the original.
        elements_i: Taken from the edited image.
        windows: Steps in which a word of the target is swapped; see `word_windows`.
    """

    original: str = ORIGINAL_PROMPT
    intermediate: str = ORIGINAL_PROMPT
    target: str = ORIGINAL_PROMPT
    elements_o: tuple[str, ...] = ("face",)
    elements_i: tuple[str, ...] = ()
    windows: Mapping[str, Bound] = field(default_factory=dict)

    @property
    def by_role(self) -> tuple[str, str, str]:
        """The three prompts: original, intermediate, target."""
        return self.original, self.intermediate, self.target


def prompts_for(identity: Sequence[str], elements: Sequence[str]) -> Prompts:
    """The default prompts for elements taken from the original and from the edited image."""
    identity, elements = ([" ".join(e.split()) for e in names] for names in (identity, elements))
    extra = [element for element in identity if element not in ORIGINAL_PROMPT.split(" ")]
    original = _with(ORIGINAL_PROMPT, extra)
    edited = _with(ORIGINAL_PROMPT, [*extra, *elements])
    return Prompts(
        original=original,
        intermediate=edited,
        target=edited,
        elements_o=tuple(identity),
        elements_i=tuple(elements),
    )


def _with(prompt: str, elements: Sequence[str]) -> str:
    return f"{prompt} with {' and '.join(elements)}" if elements else prompt


def tokenised(tokenizer: CLIPTokenizer, prompt: str) -> Tokens:
    """A prompt as `word_alignment` takes it, cut where the text encoder stops."""
    ids = tokenizer(prompt, truncation=True, max_length=tokenizer.model_max_length).input_ids
    pieces = tuple(tokenizer.decode([token]).strip() for token in ids[1:-1])
    return Tokens(prompt, tuple(ids), pieces)


def token_swap(tokenizer: CLIPTokenizer, prompts: Prompts, config: EditedIDConfig) -> TokenSwap:
    """Which tokens are swapped for these prompts, and when.

    Raises:
        PromptError: If an element is not in its prompts, or is listed twice.
    """
    original, intermediate, target = (tokenised(tokenizer, prompt) for prompt in prompts.by_role)
    for elements, source in (
        (prompts.elements_o, original),
        (prompts.elements_i, intermediate),
    ):
        for element in elements:
            phrase_tokens(source, element)
    return TokenSwap(
        tokens_o=_tokens(target, prompts.elements_o),
        tokens_i=_tokens(target, prompts.elements_i),
        mapper_o=align_tokens(original.ids, target.ids)[0],
        mapper_i=align_tokens(intermediate.ids, target.ids)[0],
        windows=word_windows(
            target,
            config.num_inference_steps,
            {"default_": config.cross_window, **prompts.windows},
        ),
    )


def _tokens(target: Tokens, elements: Sequence[str]) -> tuple[int, ...]:
    return tuple(index for element in elements for index in phrase_tokens(target, element))
