"""Both streams over the denoising steps: text tokens and weight of the injected identity."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from idbench.methods.flexid.gating import Weights
from idbench.methods.flexid.residual import moved
from idbench.methods.pulid.injection import Identity, IDInjector
from idbench.methods.pulid.pipeline import IdentityPlan, Pass

StepEnd = Callable[[object, int, object, Mapping[str, Tensor]], dict[str, Tensor]]


class StepText:
    """Semantic identity projector: E + alpha_i delta, the text tokens of step i.

    Args:
        text: E, [batch, tokens, dim].
        delta: The residual, of the same shape.
        alpha: [steps, batch].
    """

    def __init__(self, text: Tensor, delta: Tensor, alpha: Weights) -> None:
        """Copies the weights to the device: no step waits for it."""
        self._text, self._delta = text, delta
        self._acts = [bool(row.any()) for row in alpha]
        self._alpha = torch.from_numpy(alpha).to(delta)

    def __call__(self, step: int) -> Tensor:
        """Text tokens of a step, [batch, tokens, dim]; E itself, bit for bit, where alpha is 0."""
        if not self._acts[step]:
            return self._text
        return moved(self._text, self._alpha[step], self._delta)


class StepWeights:
    """Visual feature anchor: PuLID's injection with weight w_i at step i.

    A step whose weights are all 0 is plain FLUX, bit for bit.

    Args:
        w: [steps, batch].
        device: Of the networks.
    """

    def __init__(self, w: Weights, device: torch.device | str = "cpu") -> None:
        """Copies the weights to the device: no step waits for it."""
        self._acts = [bool(row.any()) for row in w]
        self._w = torch.from_numpy(w).to(device, torch.float32)

    def before(
        self, injector: IDInjector, identity: Identity, name: Pass, step: int, steps: int
    ) -> None:
        """Sets the weight of a step; both passes of true guidance have the same."""
        injector.use(identity if self._acts[step] else None, self._w[step])


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
