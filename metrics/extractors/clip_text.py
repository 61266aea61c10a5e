"""CLIP embeddings of prompts: cut off after 77 tokens, and in windows to the end.

All the long prompts of IBench have more tokens than CLIP has positions; what comes after the
seventy-fifth is never scored there.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Literal, cast

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from idbench.metrics.extractors.clip_network import clip_network
from idbench.metrics.extractors.items import text_of
from idbench.metrics.protocol import Features, Item, Missing
from idbench.metrics.weights import WeightStore

START, END = 49406, 49407
CONTEXT = 77
WINDOW = CONTEXT - 2


class ClipTokens:
    """Byte-pair tokens of a prompt, as CLIP's own tokenizer makes them."""

    def __init__(self) -> None:
        """Nothing is read yet."""

    @cached_property
    def _tokenizer(self) -> SimpleTokenizer:
        return SimpleTokenizer()

    def body(self, text: str) -> list[int]:
        """Tokens of the text without start and end."""
        return list(self._tokenizer.encode(self._tokenizer.clean_fn(text)))

    def truncated(self, text: str) -> list[int]:
        """77 tokens, zeros after the end; of a longer text the last token is the end."""
        ids = [START, *self.body(text), END][:CONTEXT]
        if len(ids) == CONTEXT:
            ids[-1] = END
        return ids + [0] * (CONTEXT - len(ids))

    def windows(self, text: str) -> list[list[int]]:
        """The body in consecutive windows of 75 tokens, the last one shorter; one if empty."""
        body = self.body(text)
        return [body[start : start + WINDOW] for start in range(0, len(body), WINDOW)] or [[]]


def wrapped(window: Sequence[int]) -> list[int]:
    """A window between start and end, padded with zeros to 77 tokens."""
    ids = [START, *window, END]
    return ids + [0] * (CONTEXT - len(ids))


class ClipText:
    """CLIP embeddings of prompts.

    Features:

    - `embedding` (d,): of the prompt cut off after 77 tokens, not normalised.
    - `tokens` (): how many tokens the prompt has without start and end.
    - with `windows`: `windows` (k, d), one embedding per window of 75 tokens, not normalised, and
      `window_tokens` (k,), how many tokens each has.

    Args:
        store: Where the weights lie.
        model: A CLIP entry of the catalogue, such as "clip_l14".
        windows: Also embed the windows; the name then ends in `.windows`.
        device: Where the network runs.
        dtype: Arithmetic of the network.
        batch_size: Texts per pass; None picks by device.
    """

    needs: tuple[str, ...] = ()
    reads: Literal["text"] = "text"
    version = 1

    def __init__(
        self,
        store: WeightStore,
        model: str,
        *,
        windows: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        """Finds the weights; they are read by the first call.

        Raises:
            MissingWeightsError: If the weights are absent.
        """
        self.name = f"{model}.text{'.windows' if windows else ''}"
        self._windows = windows
        self._digests = store.digests(model)
        self._tokens = ClipTokens()
        self._network = clip_network(
            store, model, device=device, dtype=dtype, batch_size=batch_size
        )

    def fingerprint(self) -> Mapping[str, object]:
        """Version, weights, windows and arithmetic."""
        return {
            "name": self.name,
            "version": self.version,
            "weights": self._digests,
            "windows": WINDOW if self._windows else None,
            "dtype": self._network.dtype_name,
        }

    def release(self) -> None:
        """Frees the network."""
        self._network.release()

    def __call__(self, items: Sequence[Item]) -> list[Features | Missing]:
        """The embeddings of each prompt."""
        texts = [text_of(item) for item in items]
        rows = [self._tokens.truncated(text) for text in texts]
        windows = [self._tokens.windows(text) if self._windows else [] for text in texts]
        rows += [wrapped(window) for of_text in windows for window in of_text]
        outputs = [
            output.numpy()
            for output in self._network([torch.tensor(row) for row in rows], encode_text)
        ]
        rest = iter(outputs[len(texts) :])
        results: list[Features | Missing] = []
        for text, embedding, of_text in zip(texts, outputs, windows, strict=False):
            found = {
                "embedding": embedding,
                "tokens": np.array(len(self._tokens.body(text)), np.int64),
            }
            if self._windows:
                found["windows"] = np.stack([next(rest) for _ in of_text])
                found["window_tokens"] = np.array([len(w) for w in of_text], np.int64)
            results.append(found)
        return results


def encode_text(module: nn.Module, ids: Tensor) -> Tensor:
    """Projected embeddings `batch d` of token ids `batch 77`."""
    return cast("Callable[[Tensor], Tensor]", module.encode_text)(ids)
