"""Layouts in which each file holds many pictures: videos, Cars3D (Reed et al. 2015) and SmallNORB; free of torch."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from training.data.frame_files import norb_labels, read_car, read_frames, read_norb
from training.data.images import ImageError, has_picture_suffix
from training.data.layouts.layout import (
    TEST,
    TRAIN,
    Labels,
    Layout,
    ListError,
    ReadList,
    complete_split,
    split_by_group,
)
from training.data.layouts.sequences import sequences_of
from training.data.sources import ANIMATION_SUFFIXES, VIDEO_SUFFIXES, DatasetError

_CAR = re.compile(r"(?:^|/)cars/[^/]+\.mat$")
_NORB = re.compile(r"(?:^|/)(smallnorb[^/]*(training|testing))-dat\.mat(\.gz)?$")
_ELEVATIONS = 4
_NORB_NAMES = ("category", "instance", "elevation", "azimuth", "lighting")


def are_videos(names: Sequence[str]) -> bool:
    """Returns True if there are videos and no pictures."""
    return any(_suffix(n) in VIDEO_SUFFIXES for n in names) and not any(map(has_picture_suffix, names))


def is_cars3d(names: Sequence[str]) -> bool:
    """Returns True if there are .mat files in a folder `cars`, and no pictures."""
    return any(map(_CAR.search, names)) and not any(map(has_picture_suffix, names))


def is_smallnorb(names: Sequence[str]) -> bool:
    """Returns True if there is a matrix of SmallNORB's pictures."""
    return any(map(_NORB.search, names))


def read_videos(names: Sequence[str], split: str) -> Layout:
    """Reads videos and animations as frames; the video is the identity, and a split by identity keeps it together.

    Raises:
        DatasetError: wrong_layout if there is neither.
    """
    kept = [name for name in names if _suffix(name) in (*VIDEO_SUFFIXES, *ANIMATION_SUFFIXES)]
    if not kept:
        raise DatasetError("wrong_layout", "there is no video and no animation")

    def label(chosen: Sequence[str]) -> Labels:
        videos = [file_of(key) for key in chosen]
        return Labels(
            identities=np.unique(videos, return_inverse=True)[1].astype(np.int32) if len(kept) > 1 else None,
            split=split_by_group(videos) if split == "identity" else None,
            sequences=sequences_of(videos, [frame_of(key) for key in chosen]),
        )

    return Layout(kind="frames", names=kept, unlabelled=_others(names, kept), label=label, frames=read_frames)


def read_cars3d(names: Sequence[str], split: str) -> Layout:
    """Reads Cars3D: a .mat file for each car, with 24 azimuths and 4 elevations; factors as in disentanglement_lib.

    Raises:
        DatasetError: wrong_layout if there is no such file.
    """
    kept = [name for name in names if _CAR.search(name)]
    if not kept:
        raise DatasetError("wrong_layout", "there is no .mat file in a folder named cars")

    def label(chosen: Sequence[str]) -> Labels:
        views = np.array([frame_of(key) for key in chosen])
        cars = np.unique([file_of(key) for key in chosen], return_inverse=True)[1]
        factors = np.stack([views % _ELEVATIONS, views // _ELEVATIONS, cars], axis=1).astype(np.uint16)
        return Labels(
            factors=factors,
            factor_names=("elevation", "azimuth", "object"),
            factor_sizes=tuple(int(column.max()) + 1 for column in factors.T),
            identities=cars.astype(np.int32),
            split=split_by_group([str(car) for car in cars]) if split == "identity" else None,
        )

    return Layout(kind="cars3d", names=kept, unlabelled=_others(names, kept), label=label, frames=read_car)


def read_smallnorb(names: Sequence[str], read_list: ReadList, split: str) -> Layout:
    """Reads SmallNORB: pictures of the left camera, with the category and four factors of each.

    Raises:
        DatasetError: wrong_layout if there is no file of pictures; bad_labels for a split by identity without labels.
    """
    found = {name: match for name in names if (match := _NORB.search(name))}
    if not found:
        raise DatasetError("wrong_layout", "there is no file smallnorb…-training-dat.mat")
    rows: dict[str, NDArray[np.int32]] = {}
    unusable: list[tuple[str, str]] = []
    for name in found:
        parts: list[NDArray[np.int32]] = []
        for what in ("cat", "info"):
            file = re.sub(r"-dat(\.mat(\.gz)?)$", rf"-{what}\1", name)
            try:
                parts += [norb_labels(read_list(file), file)] if file in names else []
            except (ListError, ImageError) as error:
                unusable.append((file, str(error)))
        if len(parts) == 2 and len(parts[0]) == len(parts[1]):
            rows[name] = np.concatenate(parts, axis=1)
    if split == "identity":
        raise DatasetError("bad_labels", "SmallNORB is split by its own parts; leave the split at official")

    def label(chosen: Sequence[str]) -> Labels:
        places = [TRAIN if found[file_of(key)][2] == "training" else TEST for key in chosen]
        is_labelled = all(frame_of(key) < len(rows.get(file_of(key), ())) for key in chosen)
        factors = _classes(np.array([rows[file_of(key)][frame_of(key)] for key in chosen])) if is_labelled else None
        return Labels(
            factors=factors,
            factor_names=_NORB_NAMES if factors is not None else (),
            factor_sizes=tuple(int(column.max()) + 1 for column in factors.T) if factors is not None else (),
            split=complete_split(places) if split == "official" and len(found) > 1 else None,
        )

    listed = [n for n in names if re.search(r"-(dat|cat|info)\.mat(\.gz)?$", n)]
    return Layout(
        kind="smallnorb",
        names=list(found),
        unlabelled=_others(names, listed),
        label=label,
        unusable=unusable,
        frames=read_norb,
    )


def _classes(values: NDArray[np.int32]) -> NDArray[np.uint16]:
    """Numbers the values of each column in order; azimuths are even numbers in the file."""
    columns = [np.unique(column, return_inverse=True)[1] for column in values.T]
    return np.stack(columns, axis=1).astype(np.uint16)


def key_of(file: str, frame: int) -> str:
    """Returns the name of one picture of a file."""
    return f"{file}#{frame}"


def file_of(key: str) -> str:
    """Returns the file of a picture."""
    return key.rpartition("#")[0]


def frame_of(key: str) -> int:
    """Returns the number of a picture in its file."""
    return int(key.rpartition("#")[2])


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _others(names: Sequence[str], kept: Sequence[str]) -> list[str]:
    known = set(kept)
    return [name for name in names if name not in known]
