"""Pairs of training images: those that share most of their factors, and frames near each other; free of torch."""

import numpy as np
from numpy.typing import NDArray

from models.config import ConfigError

_CANDIDATES = 1024
"""Minimum number of pairs that are tried at once. Of a full grid of factors nearly all exist."""
_TRIED, _LEAST = 65_536, 64
"""Number of pairs that are tried before a run, and the number that must exist."""


class FactorPairs:
    """Pairs that differ in some randomly chosen factors and share the others; each factor is equally likely."""

    def __init__(self, factors: NDArray[np.integer], indices: NDArray[np.int64], num_changed: int) -> None:
        """Prepares the pairs of a set.

        Args:
            factors: Class indices of all images, (N, F).
            indices: Indices of the training images, (M,).
            num_changed: Number of factors in which a pair differs; 0 for a random one of each pair, from 1 to one less
                than there are factors.

        Raises:
            ConfigError: Hardly any such pairs exist.
        """
        columns = [np.unique(column, return_inverse=True) for column in factors[indices].T]
        varying = [inverse for values, inverse in columns if len(values) > 1]
        if len(varying) <= max(1, num_changed):
            raise _too_rare(num_changed)
        self._indices, self._num_changed = indices, num_changed
        self._rows = np.stack(varying, axis=1).astype(np.int32)
        self._sizes = self._rows.max(0) + 1
        # A factor's value has a random number, and an image the sum of its own, which never overflows unlike an index.
        random = np.random.default_rng(0)
        self._numbers = [random.integers(2**64, size=size, dtype=np.uint64) for size in self._sizes]
        keys = self._keys(self._rows)
        self._order = np.argsort(keys, kind="stable")
        self._sorted_keys = keys[self._order]
        if len(self._candidates(random, _TRIED)) < _LEAST:
            raise _too_rare(num_changed)

    def __call__(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draws pairs, and returns the indices of their images in the set, (count, 2)."""
        found = np.empty((0, 2), np.int64)
        while len(found) < count:
            found = np.concatenate([found, self._candidates(rng, max(_CANDIDATES, 2 * count))])
        return _forwards(found[:count])

    def _candidates(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draws pairs, and returns those whose second image exists, (n, 2)."""
        num_factors = len(self._sizes)
        first = rng.integers(len(self._rows), size=count)
        num_changed = self._num_changed or rng.integers(1, num_factors, size=(count, 1))
        changes = rng.random((count, num_factors)).argsort(1) < num_changed
        other = (self._rows[first] + rng.integers(1, self._sizes, size=(count, num_factors))) % self._sizes
        wanted = np.where(changes, other, self._rows[first])
        keys = self._keys(wanted)
        begin, end = (np.searchsorted(self._sorted_keys, keys, side) for side in ("left", "right"))
        chosen = begin + (rng.random(count) * (end - begin)).astype(np.int64)
        second = self._order[np.minimum(chosen, len(self._order) - 1)]
        exists = (self._rows[second] == wanted).all(1)
        pairs: NDArray[np.int64] = self._indices[np.stack([first, second], axis=1)[exists]]
        return pairs

    def _keys(self, rows: NDArray[np.integer]) -> NDArray[np.uint64]:
        """Returns a number for each row of class indices, (n, F), which is equal for equal rows."""
        keys: NDArray[np.uint64] = np.sum([n[rows[:, k]] for k, n in enumerate(self._numbers)], axis=0, dtype=np.uint64)
        return keys


class SequencePairs:
    """Pairs of two frames of one sequence that are near each other; each frame with a neighbour is equally likely."""

    def __init__(self, sequences: NDArray[np.integer], indices: NDArray[np.int64], max_distance: int) -> None:
        """Prepares the pairs of a set.

        Args:
            sequences: Sequence and place of all images, (N, 2), see Pack.sequences.
            indices: Indices of the training images, (M,).
            max_distance: Largest distance of two frames, in places of their sequence.

        Raises:
            ConfigError: No such pair exists.
        """
        indices = indices[sequences[indices, 0] >= 0]
        sequence, place = sequences[indices].astype(np.int64).T
        # Frames of different sequences are farther from each other on this line than max_distance.
        line = sequence * (place.max(initial=0) + max_distance + 1) + place
        order = np.argsort(line, kind="stable")
        self._indices, line = indices[order], line[order]
        self._begin = np.searchsorted(line, line - max_distance, "left")
        self._num_near = np.searchsorted(line, line + max_distance, "right") - self._begin - 1
        self._first = np.flatnonzero(self._num_near)
        if not len(self._first):
            raise ConfigError(
                "max_distance", f"no two training frames of a sequence are within {max_distance} of each other"
            )

    def __call__(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draws pairs, and returns the indices of their images in the set, (count, 2)."""
        first = rng.choice(self._first, count)
        second = self._begin[first] + rng.integers(self._num_near[first])
        second += second >= first
        return _forwards(self._indices[np.stack([first, second], axis=1)])


def _too_rare(num_changed: int) -> ConfigError:
    number = f"exactly {num_changed}" if num_changed else "some"
    return ConfigError("num_changed", f"too few training pictures differ in {number} of their factors and share others")


def _forwards(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorts pairs by their first image, since a mapped file is read faster forwards."""
    return pairs[np.argsort(pairs[:, 0], kind="stable")]
