"""Which face belongs to which person: optimal, greedy and positional assignment."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Similarities = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """Pairs (person, face) and the similarity of each; `people` counts the matched and others."""

    pairs: tuple[tuple[int, int], ...]
    similarities: tuple[float, ...]
    people: int

    @property
    def mean(self) -> float:
        """Mean over all people; one without a face counts 0."""
        return sum(self.similarities) / self.people

    @property
    def matched_mean(self) -> float:
        """Mean over the people that have a face; NaN if none has."""
        return (
            sum(self.similarities) / len(self.similarities) if self.similarities else float("nan")
        )

    @property
    def minimum(self) -> float:
        """The lowest similarity; at most 0 if someone has no face."""
        return min([*self.similarities, *[0.0] * (self.people - len(self.pairs))])


def optimal(similarities: Similarities) -> Assignment:
    """The assignment with the largest sum, `people faces` of any shape (Hungarian method)."""
    matrix = np.asarray(similarities, np.float64)
    people, faces = linear_sum_assignment(-matrix)
    pairs = tuple(zip(people.tolist(), faces.tolist(), strict=True))
    return Assignment(
        pairs=pairs,
        similarities=tuple(float(matrix[pair]) for pair in pairs),
        people=matrix.shape[0],
    )


def greedy(similarities: Similarities) -> Assignment:
    """FastComposer's rule: take the largest entry left, strike its row and column, repeat.

    Among equals the lowest face index wins, then the lowest person. FastComposer asks for as many
    faces as people; here the rule stops when either runs out.
    """
    left = np.array(similarities, np.float64)
    pairs = []
    values = []
    for _ in range(min(left.shape)):
        # The transpose makes argmax run over faces first.
        face, person = np.unravel_index(int(np.argmax(left.T)), left.T.shape)
        pairs.append((int(person), int(face)))
        values.append(float(left[person, face]))
        left[person, :] = -np.inf
        left[:, face] = -np.inf
    return Assignment(pairs=tuple(pairs), similarities=tuple(values), people=left.shape[0])


def by_position(
    boxes: NDArray[np.floating],
    people: int,
    width: float,
    centres: NDArray[np.floating] | None = None,
) -> dict[int, int]:
    """Person to face, by the horizontal centres of the faces.

    With as many faces as people the i-th person from the left has the i-th face. With fewer, each
    face goes to the nearest free person, nearest pair first; others stay without.

    Args:
        boxes: Faces, `n 4`, x1 y1 x2 y2 in pixels.
        people: Number of people.
        width: Width of the image in pixels.
        centres: Horizontal centre of each person in [0, 1]; equal strips by default.
    """
    middle = np.asarray(boxes, np.float64).reshape(-1, 4)[:, ::2].mean(axis=1)
    order = np.argsort(middle, kind="stable")
    if len(order) >= people:
        return {person: int(face) for person, face in enumerate(order[:people])}
    places = (np.arange(people) + 0.5) / people if centres is None else np.asarray(centres)
    distance = np.abs(places[:, None] * width - middle[None, order])
    chosen = greedy(-distance)
    return {person: int(order[face]) for person, face in chosen.pairs}
