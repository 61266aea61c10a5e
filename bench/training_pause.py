"""A pause in a training that leaves it as if there had been none."""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np


@contextmanager
def training_pause(model: Any = None) -> Iterator[None]:
    """Evaluation mode and no gradients within the `with` block; everything as before after it.

    Put back are the states of Python's, numpy's and torch's random numbers (on all devices), the
    number of torch's threads, and which modules of `model` (a torch module or None) were training.
    torch is not imported where it is not there already.
    """
    torch: Any = sys.modules.get("torch")
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        stack.callback(random.setstate, python_state)
        stack.callback(np.random.set_state, numpy_state)
        if torch is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            stack.callback(torch.set_rng_state, torch.get_rng_state())
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                stack.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
            stack.enter_context(torch.no_grad())
        if model is not None:
            modes = [(module, module.training) for module in model.modules()]
            stack.callback(_put_back, modes)
            model.eval()
        yield


def _put_back(modes: list[tuple[Any, bool]]) -> None:
    for module, training in modes:
        module.training = training
