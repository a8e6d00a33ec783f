"""Sequences of frames, known from the numbers in names or from the frames of videos; free of torch."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)
"""A name without its suffix: what stands before its last number, the number, and what stands behind it."""


def sequences_of(groups: Sequence[str], numbers: Sequence[int]) -> NDArray[np.int32] | None:
    """Returns the sequence of each image and its place in it, counted from 0 without gaps.

    Args:
        groups: The name of each image's sequence, N of them; empty for an image without one.
        numbers: The number of each image, by which its sequence is ordered; equal ones keep their order.

    Returns:
        (N, 2), see Pack.sequences; None if no sequence has two images.
    """
    ids = {name: k for k, name in enumerate(dict.fromkeys(groups))}
    group = np.array([ids[name] for name in groups])
    sizes = np.bincount(group)
    is_sequence = (sizes > 1) & np.array([name != "" for name in ids])
    sequence = np.where(is_sequence, np.cumsum(is_sequence) - 1, -1)[group]
    order = np.lexsort((np.array(numbers, np.int64), group))
    place = np.empty(len(groups), np.int64)
    place[order] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place[sequence < 0] = 0
    return np.stack([sequence, place], axis=1).astype(np.int32) if is_sequence.any() else None


def numbered_sequences(names: Sequence[str]) -> NDArray[np.int32] | None:
    """Returns the sequences of pictures in one folder whose names differ in their last number alone, such as a/f12.png.

    Args:
        names: The path of each picture, N of them.

    Returns:
        (N, 2), see Pack.sequences; None if there is no such sequence.
    """
    groups, numbers = [], []
    for name in names:
        path = PurePosixPath(name)
        found = _NUMBERED.fullmatch(path.stem)
        groups.append("" if found is None else f"{path.parent}/{found[1]}#{found[3]}{path.suffix}")
        numbers.append(0 if found is None else int(found[2]))
    return sequences_of(groups, numbers)
