"""Recognition of the layout of a folder by the names of its files; free of torch."""

from collections.abc import Iterable, Sequence

from training.data.layouts.celeba import is_celeba, read_celeba
from training.data.layouts.chairs3d import is_chairs3d, read_chairs3d
from training.data.layouts.class_folders import are_class_folders, read_class_folders
from training.data.layouts.labels_file import has_labels_file, read_labels_file
from training.data.layouts.layout import Labels, Layout, ReadList
from training.data.layouts.many_pictures import (
    are_videos,
    is_cars3d,
    is_smallnorb,
    read_cars3d,
    read_smallnorb,
    read_videos,
)
from training.data.layouts.sequences import numbered_sequences
from training.data.sources import DatasetError


def detect(names: Sequence[str]) -> str:
    """Returns the layout that the names show; images if none does."""
    found = {
        "celeba": is_celeba,
        "chairs3d": is_chairs3d,
        "cars3d": is_cars3d,
        "smallnorb": is_smallnorb,
        "frames": are_videos,
        "labels": has_labels_file,
        "classes": are_class_folders,
    }
    return next((layout for layout, is_layout in found.items() if is_layout(names)), "images")


def read_layout(names: Iterable[str], read_list: ReadList, *, layout: str, split: str) -> Layout:
    """Finds out which files of a folder are pictures, and how they are labelled.

    Args:
        names: Relative POSIX paths of all files.
        read_list: Returns the bytes of one of them; raises ListError.
        layout: See ImageFolder.layout.
        split: See ImageFolder.split.

    Raises:
        DatasetError: wrong_layout or bad_labels.
    """
    names = sorted(names)
    kind = detect(names) if layout == "auto" else layout
    if kind == "chairs3d":
        return read_chairs3d(names, split)
    if kind == "celeba":
        return read_celeba(names, read_list, split)
    if kind == "cars3d":
        return read_cars3d(names, split)
    if kind == "smallnorb":
        return read_smallnorb(names, read_list, split)
    if kind == "frames":
        return read_videos(names, split)
    if kind == "labels":
        return read_labels_file(names, read_list, split)
    if kind == "classes":
        return read_class_folders(names, split)
    if split == "identity":
        raise DatasetError("bad_labels", "plain pictures name no identities to split by")
    return Layout(
        kind="images", names=names, unlabelled=[], label=lambda kept: Labels(sequences=numbered_sequences(kept))
    )
