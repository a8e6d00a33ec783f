"""Pictures in a folder for each class, as ImageNet and torchvision's ImageFolder have them; free of torch."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from training.data.images import has_picture_suffix
from training.data.layouts.layout import TEST, TRAIN, VALIDATION, Labels, Layout, complete_split
from training.data.layouts.sequences import numbered_sequences
from training.data.sources import DatasetError

PARTS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
"""Names of folders, and values in lists, that stand for a split."""
_LEAST_PICTURES = 2
"""Mean number of pictures in a folder from which folders are taken for classes."""
_MOST_CLASSES = 2**16 - 1


def are_class_folders(names: Sequence[str]) -> bool:
    """Returns True if every picture lies in one of several folders side by side, which hold several pictures each."""
    pictures = [name for name in names if has_picture_suffix(name)]
    places = _places(pictures)
    num_folders = len(set(places.values()))
    return len(places) == len(pictures) and num_folders >= 2 and len(pictures) >= _LEAST_PICTURES * num_folders


def read_class_folders(names: Sequence[str], split: str) -> Layout:
    """Reads pictures whose class is the name of their folder; folders named train, val and test are the split.

    Args:
        names: Relative POSIX paths of all files.
        split: See ImageFolder.split.

    Raises:
        DatasetError: wrong_layout if there are no two folders side by side; bad_labels for a split by identity.
    """
    if split == "identity":
        raise DatasetError("bad_labels", "class folders name no identities to split by")
    places = _places([name for name in names if has_picture_suffix(name)])
    if len(set(places.values())) < 2:
        raise DatasetError("wrong_layout", "expected a folder for each class, such as cat/1.png and dog/1.png")
    classes = sorted({name for _, name in places.values()})
    if len(classes) > _MOST_CLASSES:
        raise DatasetError("wrong_layout", f"there are {len(classes)} folders; at most {_MOST_CLASSES} can be classes")
    numbers = {name: number for number, name in enumerate(classes)}
    has_classes = len(classes) > 1

    def label(chosen: Sequence[str]) -> Labels:
        found = [places[name] for name in chosen]
        return Labels(
            factors=np.array([[numbers[name]] for _, name in found], np.uint16) if has_classes else None,
            factor_names=("class",) if has_classes else (),
            factor_sizes=(len(classes),) if has_classes else (),
            split=complete_split([part for part, _ in found]) if split == "official" else None,
            sequences=numbered_sequences(chosen),
        )

    return Layout(kind="classes", names=list(places), unlabelled=[n for n in names if n not in places], label=label)


def _below_common(pictures: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the parts of each path below the folders that all of them share."""
    paths = [PurePosixPath(name).parts for name in pictures]
    shared = 0
    while paths and all(len(parts) > shared + 1 for parts in paths) and len({parts[shared] for parts in paths}) == 1:
        shared += 1
    return [parts[shared:] for parts in paths]


def _places(pictures: Sequence[str]) -> dict[str, tuple[int | None, str]]:
    """Returns the split and the class of each picture by its path; pictures at another depth are left out.

    Folders that are all named after a part of a split are no classes.
    """
    paths = dict(zip(pictures, _below_common(pictures), strict=True))
    tops = {parts[0].lower() for parts in paths.values() if len(parts) == 2}
    has_only_parts = bool(tops) and tops <= PARTS.keys()
    places: dict[str, tuple[int | None, str]] = {}
    for name, parts in paths.items():
        part = PARTS.get(parts[0].lower())
        if len(parts) == 2:
            places[name] = (part, "") if has_only_parts else (None, parts[0])
        elif len(parts) == 3 and part is not None:
            places[name] = (part, parts[1])
    return places
