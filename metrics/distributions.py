"""Class probabilities of a classifier, and how far two of them are apart."""

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of logits `... classes`."""
    z = np.asarray(logits, np.float64)
    weights = np.exp(z - z.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


def entropy(p: NDArray[np.floating]) -> float:
    """Entropy in nats; classes of probability 0 add nothing."""
    q = np.asarray(p, np.float64)
    positive = q[q > 0]
    return float(-(positive * np.log(positive)).sum())


def jensen_shannon(p: NDArray[np.floating], q: NDArray[np.floating]) -> float:
    """Jensen-Shannon divergence in nats, in [0, ln 2]."""
    middle = (np.asarray(p, np.float64) + q) / 2
    return max(entropy(middle) - (entropy(p) + entropy(q)) / 2, 0.0)
