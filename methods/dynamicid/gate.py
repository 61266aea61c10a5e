"""The gate of semantic-activated attention (SAA): how much identity each query takes in.

Equations 2 and 3 of the paper. J, the vector of ones in Norm(Q K^T J), lets the scores be summed
before they are made: summing q_a . k_{a,j} over heads a and tokens j is the dot product of the
whole query with the sum of the keys, so no score matrix is needed for the gate.
"""

import numpy as np
import torch
from torch import Tensor

SMALLEST_RANGE = 1e-12
"""Keeps the min-max normalisation finite; a gate that is constant over queries becomes 0."""


def raw_activation(query: Tensor, key_sum: Tensor) -> Tensor:
    """Q K^T J summed over heads: float32 of shape (batch, queries).

    `query` is (batch, queries, channels) before the heads are split; `key_sum` is
    (batch, channels) in float32, the sum of the identity keys over tokens, already scaled by
    1 / sqrt(head width).
    """
    # A product and a sum rather than a matrix product, which autocast would do in half precision.
    return (query * key_sum.unsqueeze(1)).sum(dim=-1)


def min_max(raw: Tensor) -> Tensor:
    """Norm of equation 2: each sample scaled to [0, 1] over its own queries.

    Never across the batch: a sample's gate does not depend on its neighbours.
    """
    low, high = torch.aminmax(raw, dim=-1, keepdim=True)
    return (raw - low) / (high - low).clamp_min(SMALLEST_RANGE)


def drop_weak(gate: Tensor, threshold: float) -> Tensor:
    """Sets activations below `threshold` to 0 and leaves the others as they are.

    Only in the official code (0.3); the paper has no threshold, which is `threshold=0.0`.
    """
    # The functional form keeps what is greater than its argument, so that is the number below.
    just_below = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
    return torch.nn.functional.threshold(gate, just_below, 0.0)


def with_layout(gate: Tensor, inside: Tensor, beta: float) -> Tensor:
    """Equation 3: w + beta inside the boxes, w / (beta + 1) outside.

    `gate` and `inside` (bool) are (batch, queries). The result is in [beta, beta + 1] inside and
    in [0, 1 / (beta + 1)] outside. Overlapping boxes count once; in the official code they
    compound.
    """
    return torch.where(inside, gate + beta, gate / (beta + 1.0))
