"""EditID as a method of the harness: requests in, images or failures out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar

from idbench.methods.common.answering import Answer, answer_by_size
from idbench.methods.editid.config import EditIDConfig
from idbench.methods.editid.integration import PooledQueries
from idbench.methods.protocol import Capabilities, Request
from idbench.methods.pulid.pipeline import (
    ConstantWeight,
    PuLIDPipeline,
    load_pipeline,
    with_identity,
)


@dataclass(frozen=True, kw_only=True)
class EditID(EditIDConfig):
    """EditID (arXiv 2503.12526): a reconstruction on PuLID-FLUX's released weights."""

    name: ClassVar[str] = "editid"
    version: ClassVar[int] = 1
    capabilities: ClassVar[Capabilities] = Capabilities()

    def fingerprint(self) -> Mapping[str, object]:
        """Code version, parameters, weights by sha256, and what is reconstructed."""
        return {
            "method": self.name,
            "version": self.version,
            "parameters": self.parameters(),
            "weights": dict(self.digests()),
            "reconstruction": ["pooled queries", "gains on mapped features"],
        }

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """One RGB image or failure per request, in order."""
        return answer_by_size(requests, self, self._make)

    @cached_property
    def pipeline(self) -> PuLIDPipeline:
        """The loaded networks."""
        return load_pipeline(self, PooledQueries(self.gamma), self.scale_gains)

    def _make(self, requests: Sequence[Request], width: int, height: int) -> list[Answer]:
        plan = ConstantWeight(self.id_weight, self.start_step)
        answer = partial(self.pipeline.answer, width=width, height=height, plan=plan)
        return with_identity(self.pipeline, requests, answer)
