"""Both streams over the denoising steps: text tokens and weight of the injected identity."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from idbench.methods.flexid.gating import Weights
from idbench.methods.flexid.residual import moved
from idbench.methods.pulid.injection import Identity, IDInjector
from idbench.methods.pulid.pipeline import IdentityPlan, Pass

StepEnd = Callable[[object, int, object, Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepText:
    """Semantic identity projector: E + alpha_i delta, the text tokens of step i.

    `text` and `delta` are [batch, tokens, dim], `alpha` is [steps, batch].
    """

    text: Tensor
    delta: Tensor
    alpha: Weights

    def __call__(self, step: int) -> Tensor:
        """Text tokens of a step, [batch, tokens, dim]; E itself, bit for bit, where alpha is 0."""
        alpha = self.alpha[step]
        if not alpha.any():
            return self.text
        return moved(self.text, torch.from_numpy(alpha), self.delta)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepWeights:
    """Visual feature anchor: PuLID's injection with weight w_i at step i.

    `w` is [steps, batch]. A step whose weights are all 0 is plain FLUX, bit for bit.
    """

    w: Weights

    def before(
        self, injector: IDInjector, identity: Identity, name: Pass, step: int, steps: int
    ) -> None:
        """Sets the weight of a step; both passes of true guidance have the same."""
        w = self.w[step]
        injector.use(identity if w.any() else None, torch.from_numpy(w.astype(np.float32)))


def step_end_callback(
    text: Callable[[int], Tensor],
    plan: IdentityPlan,
    injector: IDInjector,
    identity: Identity,
    num_inference_steps: int,
) -> StepEnd:
    """Runs both streams inside diffusers' own FluxPipeline, as its `callback_on_step_end`.

    The first step is set up here, so make the callback just before the call, and give the pipeline
    `prompt_embeds=text(0)`.
    """
    plan.before(injector, identity, "positive", 0, num_inference_steps)

    def callback(
        pipe: object, step: int, timestep: object, tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        if step + 1 == num_inference_steps:
            injector.use(None)
            return {}
        plan.before(injector, identity, "positive", step + 1, num_inference_steps)
        return {"prompt_embeds": text(step + 1)}

    return callback
