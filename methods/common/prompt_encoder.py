"""Prompts through a CLIP text encoder: tokens for a UNet, and the pooled feature."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer


class PromptEncoder:
    """Tokenizer and text encoder; prompts are cut or padded to 77 tokens."""

    def __init__(self, tokenizer: CLIPTokenizer, model: CLIPTextModel) -> None:
        """Keeps the two."""
        self.tokenizer = tokenizer
        self.model = model

    def _ids(self, prompts: Sequence[str]) -> Tensor:
        ids: Tensor = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.model.config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return ids.to(self.model.device)

    @torch.no_grad()
    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Hidden states after the last norm, (batch, 77, width)."""
        hidden: Tensor = self.model(self._ids(prompts)).last_hidden_state
        return hidden

    @torch.no_grad()
    def features(self, prompts: Sequence[str]) -> Tensor:
        """The state at the end of the text, f_p of equation 5, (batch, width) in float32."""
        pooled: Tensor = self.model(self._ids(prompts)).pooler_output
        return pooled.float()
