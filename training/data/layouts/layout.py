"""What a layout finds out about the files of a folder: the pictures, and their labels; free of torch."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.sources import Limits

TRAIN, VALIDATION, TEST = 0, 1, 2

ReadList = Callable[[str], bytes]
"""A function that returns the bytes of a list beside the pictures; raises ListError."""


ReadFrames = Callable[[Any, str, Limits], Iterator[NDArray[np.uint8]]]
"""A function that yields the pictures of a file, given the files, its name and the limits; raises ImageError."""


class ListError(ValueError):
    """A list of labels that gives nothing; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of the pictures that were kept, one row each; None where they are unknown."""

    factors: NDArray[np.uint16] | None = None
    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()
    split: NDArray[np.uint8] | None = None
    identities: NDArray[np.int32] | None = None
    values: NDArray[np.float64] | None = None
    """See Pack.values."""
    sequences: NDArray[np.int32] | None = None
    """See Pack.sequences."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A recognised folder."""

    kind: str
    """The layout, which is images, classes, labels, chairs3d, celeba, frames, cars3d or smallnorb."""
    names: list[str]
    """The pictures in the order in which they are packed."""
    unlabelled: list[str]
    """The pictures for which the set has no label."""
    label: Callable[[Sequence[str]], Labels]
    """Returns the labels of those pictures that could be decoded, given their names."""
    unusable: list[tuple[str, str]] = field(default_factory=list)
    """The name and the reason of each list that is not used, or only in part."""
    frames: ReadFrames | None = None
    """Reads the pictures of a file that holds many; `label` then gets name#number for each. None: a picture a file."""


def split_by_group(groups: Sequence[str]) -> NDArray[np.uint8]:
    """Splits pictures by whole groups: 80 % train, 10 % validation, 10 % test.

    Groups are ordered by a hash of their name, so that the split does not depend on the order of the files.

    Args:
        groups: The name of each picture's group, N of them.

    Returns:
        (N,) uint8, 0 train, 1 validation, 2 test.
    """
    unique = sorted(set(groups), key=lambda g: hashlib.sha256(g.encode("utf-8", "surrogateescape")).digest())
    held_out = max(1, round(0.1 * len(unique))) if len(unique) >= 3 else 0
    part = dict.fromkeys(unique, TRAIN)
    part |= dict.fromkeys(unique[:held_out], TEST)
    part |= dict.fromkeys(unique[held_out : 2 * held_out], VALIDATION)
    return np.array([part[g] for g in groups], np.uint8)


def complete_split(split: Sequence[int | None] | NDArray[np.integer]) -> NDArray[np.uint8] | None:
    """Completes the split of a set that may have none for some pictures, or no validation.

    Args:
        split: (N,), 0 train, 1 validation, 2 test; None where it is unknown.

    Returns:
        (N,) uint8, in which a tenth of the training pictures is for validation if none was; None if a picture has no
        place, or none is for training.
    """
    if any(part is None for part in split):
        return None
    parts = np.array(split, np.uint8)
    training = np.flatnonzero(parts == TRAIN)
    if not len(training):
        return None
    if not (parts == VALIDATION).any():
        chosen = np.random.default_rng(0).permutation(training)[: len(training) // 10]
        parts[chosen] = VALIDATION
    return parts
