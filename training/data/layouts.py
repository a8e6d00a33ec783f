"""Published folder layouts: labels of pictures from their names and from the lists beside them; free of torch."""

import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from training.data.images import has_picture_suffix
from training.data.sources import DatasetError

TRAIN, VALIDATION, TEST = 0, 1, 2

_CHAIR = re.compile(r"(?:^|/)([^/]+)/renders/image_\d+_p(\d+)_t(\d+)_r\d+\.png$")
_CELEBA_PICTURE = re.compile(r"(?:^|/)\d{6}\.(?:jpe?g|png)$", re.IGNORECASE)
_NUM_LABELS = {"identity_CelebA": 1, "list_attr_celeba": None, "list_eval_partition": 1}
"""Number of columns to read from each list, after the picture's name; None for all."""
_CELEBA_LIST = re.compile(rf"(?:^|/)({'|'.join(_NUM_LABELS)})\.(?:txt|csv)$")
_LISTS = re.compile(r"(?:^|/)(?:identity_CelebA|list_\w+_celeba|list_eval_partition)\.(?:txt|csv)$")


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of the pictures that were kept, one row each; None where they are unknown."""

    factors: NDArray[np.uint16] | None = None
    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()
    split: NDArray[np.uint8] | None = None
    identities: NDArray[np.int32] | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A recognised folder."""

    kind: str
    """The layout, which is images, chairs3d or celeba."""
    names: list[str]
    """The pictures in the order in which they are packed."""
    unlabelled: list[str]
    """The pictures for which the set has no label."""
    label: Callable[[Sequence[str]], Labels]
    """Returns the labels of those pictures that could be decoded, given their names."""


def detect(names: Iterable[str]) -> str:
    """Returns the layout (celeba, chairs3d or images) that the names show."""
    names = list(names)
    if any(_CELEBA_LIST.search(n) for n in names) and any(_CELEBA_PICTURE.search(n) for n in names):
        return "celeba"
    if any("img_align_celeba" in PurePosixPath(n).parts for n in names):
        return "celeba"
    num_chairs = sum(1 for n in names if _CHAIR.search(n))
    return "chairs3d" if num_chairs and num_chairs >= 0.9 * sum(map(has_picture_suffix, names)) else "images"


def read_layout(names: Iterable[str], read_text: Callable[[str], str], *, layout: str, split: str) -> Layout:
    """Finds out which files of a folder are pictures, and how they are labelled.

    Args:
        names: Relative POSIX paths of all files.
        read_text: Returns the text of one of them.
        layout: See ImageFolder.layout.
        split: See ImageFolder.split.

    Raises:
        DatasetError: wrong_layout or bad_labels.
    """
    names = sorted(names)
    kind = detect(names) if layout == "auto" else layout
    if kind == "chairs3d":
        return _chairs(names, split)
    if kind == "celeba":
        return _celeba(names, read_text, split)
    if split == "identity":
        raise DatasetError("bad_labels", "plain pictures name no identities to split by")
    return Layout(kind="images", names=names, unlabelled=[], label=lambda _: Labels())


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


def _chairs(names: list[str], split: str) -> Layout:
    """Reads 3D Chairs (Aubry et al. 2014) from its names.

    A name is <model>/renders/image_NNN_pPPP_tTTT_rRRR.png, with the elevation PPP and the azimuth TTT in degrees.
    """
    found = {name: match for name in names if (match := _CHAIR.search(name))}
    if not found:
        raise DatasetError("wrong_layout", "no file is named <model>/renders/image_NNN_pPPP_tTTT_rRRR.png")
    # Sorted by model, elevation and azimuth.
    kept = sorted(found, key=lambda n: (found[n][1], int(found[n][2]), int(found[n][3])))

    def label(chosen: Sequence[str]) -> Labels:
        matches = [found[name] for name in chosen]
        elevations, elevation = np.unique([int(m[2]) for m in matches], return_inverse=True)
        azimuths, azimuth = np.unique([int(m[3]) for m in matches], return_inverse=True)
        models = [m[1] for m in matches]
        return Labels(
            factors=np.stack([elevation, azimuth], axis=1).astype(np.uint16),
            factor_names=("elevation", "azimuth"),
            factor_sizes=(len(elevations), len(azimuths)),
            split=None if split == "none" else split_by_group(models),
            identities=np.unique(models, return_inverse=True)[1].astype(np.int32),
        )

    others = [name for name in names if name not in found and has_picture_suffix(name)]
    return Layout(kind="chairs3d", names=kept, unlabelled=others, label=label)


def _celeba(names: list[str], read_text: Callable[[str], str], split: str) -> Layout:
    """Reads CelebA: NNNNNN.jpg and, if present, the lists of identities, attributes and the official partition.

    Only files with a list's published name count as lists, not an editor's backup of one.
    """
    pictures = [name for name in names if _CELEBA_PICTURE.search(name)]
    if not pictures:
        raise DatasetError("wrong_layout", "no picture is named NNNNNN.jpg")
    lists = {match[1]: name for name in names if (match := _CELEBA_LIST.search(name))}
    tables = {stem: _read_table(name, read_text(name), _NUM_LABELS[stem]) for stem, name in lists.items()}
    if split == "identity" and "identity_CelebA" not in tables:
        raise DatasetError("bad_labels", "a split by identity needs identity_CelebA.txt")
    # In some copies pictures and lists have different suffixes (.png and .jpg), so pictures are matched by number.
    keys = {name: PurePosixPath(name).stem for name in pictures}
    kept = [name for name in pictures if all(keys[name] in rows for _, rows in tables.values())]
    if not kept:
        raise DatasetError("bad_labels", "the lists beside the pictures name none of them")

    def label(chosen: Sequence[str]) -> Labels:
        columns = {stem: [rows[keys[name]] for name in chosen] for stem, (_, rows) in tables.items()}
        return _celeba_labels(columns, tables.get("list_attr_celeba", ([], {}))[0], split)

    left_out = set(pictures) - set(kept)
    others = [n for n in names if n in left_out or (n not in keys and not _LISTS.search(n))]
    return Layout(kind="celeba", names=kept, unlabelled=others, label=label)


def _celeba_labels(columns: dict[str, list[list[int]]], attributes: list[str], split: str) -> Labels:
    people = [row[0] for row in columns.get("identity_CelebA", [])]
    if any(abs(person) > np.iinfo(np.int32).max for person in people):
        raise DatasetError("bad_labels", "identity_CelebA.txt: number the identities from 1 to 2147483647")
    partition = [row[0] for row in columns.get("list_eval_partition", [])]
    if any(part not in (TRAIN, VALIDATION, TEST) for part in partition):
        raise DatasetError("bad_labels", "list_eval_partition.txt: a part is not 0, 1 or 2")
    places: NDArray[np.uint8] | None = None
    if split == "official" and partition:
        places = np.array(partition, np.uint8)
    elif split != "none" and people:
        places = split_by_group([str(person) for person in people])
    factors = None
    if "list_attr_celeba" in columns:
        factors = (np.array(columns["list_attr_celeba"]) > 0).astype(np.uint16)
        if factors.ndim != 2 or factors.shape[1] != len(attributes):
            raise DatasetError("bad_labels", f"list_attr_celeba.txt: a row does not hold {len(attributes)} attributes")
    return Labels(
        factors=factors,
        factor_names=tuple(attributes) if factors is not None else (),
        factor_sizes=(2,) * len(attributes) if factors is not None else (),
        split=places,
        identities=np.array(people, np.int32) if people else None,
    )


def _read_table(name: str, text: str, num_labels: int | None) -> tuple[list[str], dict[str, list[int]]]:
    """Reads a list.

    Args:
        name: Name of the list, with the suffix .txt or .csv.
        text: Its content.
        num_labels: Number of columns to read after the picture's name; None for all.

    Returns:
        The column names, empty if there is no heading; and the numbers of each row by the picture's name without its
        suffix.

    Raises:
        DatasetError: bad_labels.
    """
    lines = csv.reader(text.splitlines()) if name.endswith(".csv") else (line.split() for line in text.splitlines())
    heading: list[str] = []
    rows: dict[str, list[int]] = {}
    lengths: set[int] = set()
    for number, cells in enumerate(lines, 1):
        if not cells or (number == 1 and len(cells) == 1):  # list_attr_celeba.txt begins with the number of pictures.
            continue
        if not has_picture_suffix(cells[0]):
            if rows or heading:
                raise DatasetError(
                    "bad_labels", f"{PurePosixPath(name).name}, line {number}: expected a picture's name"
                )
            heading = cells[1:] if cells[0] == "image_id" else cells
            continue
        try:
            rows[PurePosixPath(cells[0]).stem] = [int(cell) for cell in cells[1:][:num_labels]]
        except ValueError as error:
            raise DatasetError("bad_labels", f"{PurePosixPath(name).name}, line {number}: {error}") from error
        lengths.add(len(cells))
    if len(lengths) > 1 or 1 in lengths:
        raise DatasetError("bad_labels", f"{PurePosixPath(name).name}: rows of different lengths, or empty ones")
    return heading, rows
