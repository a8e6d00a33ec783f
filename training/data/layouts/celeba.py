"""CelebA: its pictures, and the lists of identities, attributes and the official partition; free of torch."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from training.data.images import has_picture_suffix
from training.data.layouts.layout import TEST, TRAIN, VALIDATION, Labels, Layout, ListError, ReadList, split_by_group
from training.data.layouts.lists import LEAST_SHARE, MOST_FACTORS, Table, lines_of
from training.data.sources import DatasetError

_PICTURE = re.compile(r"(?:^|/)\d{6}\.(?:jpe?g|png)$", re.IGNORECASE)
_IDENTITIES, _ATTRIBUTES, _PARTITION = "identity_CelebA", "list_attr_celeba", "list_eval_partition"
_LIST = re.compile(rf"(?:^|/)({_IDENTITIES}|{_ATTRIBUTES}|{_PARTITION})\.(?:txt|csv)$")
_ANY_LIST = re.compile(r"(?:^|/)(?:identity_CelebA|list_\w+_celeba|list_eval_partition)\.(?:txt|csv)$")
_LARGEST_IDENTITY = int(np.iinfo(np.int32).max)


def is_celeba(names: Sequence[str]) -> bool:
    """Returns True if the names are those of CelebA: its folder, or its pictures beside one of its lists."""
    if any(_LIST.search(n) for n in names) and any(_PICTURE.search(n) for n in names):
        return True
    return any("img_align_celeba" in PurePosixPath(n).parts for n in names)


def read_celeba(names: Sequence[str], read_list: ReadList, split: str) -> Layout:
    """Reads a folder of CelebA: NNNNNN.jpg and, if present, its lists.

    Only files with a list's published name count as lists, not an editor's backup of one. A list that cannot be used,
    or that names fewer than half of the pictures, costs no picture; the labels that it would give are missing.

    Args:
        names: Relative POSIX paths of all files.
        read_list: Returns the bytes of a list.
        split: See ImageFolder.split.

    Raises:
        DatasetError: wrong_layout if no picture is named so; bad_labels if the split needs identities that are missing.
    """
    pictures = [name for name in names if _PICTURE.search(name)]
    if not pictures:
        raise DatasetError("wrong_layout", "no picture is named NNNNNN.jpg")
    # In some copies pictures and lists have different suffixes (.png and .jpg), so pictures are matched by number.
    keys = {name: PurePosixPath(name).stem for name in pictures}
    tables, unusable = _read_lists(names, read_list, set(keys.values()))
    kept = [name for name in pictures if all(keys[name] in table.rows for table in tables.values())]
    if not kept:
        unusable += [(PurePosixPath(stem).name, "the lists have no picture in common") for stem in tables]
        tables, kept = {}, pictures
    if split == "identity" and _IDENTITIES not in tables:
        reason = next((f": {reason}" for name, reason in unusable if _IDENTITIES in name), "")
        raise DatasetError("bad_labels", f"a split by identity needs identity_CelebA.txt{reason}")

    def label(chosen: Sequence[str]) -> Labels:
        columns = {stem: [table.rows[keys[name]] for name in chosen] for stem, table in tables.items()}
        return _labels(columns, tables[_ATTRIBUTES].heading if _ATTRIBUTES in tables else [], split)

    left_out = set(pictures) - set(kept)
    others = [n for n in names if n in left_out or (n not in keys and not _ANY_LIST.search(n))]
    return Layout(kind="celeba", names=kept, unlabelled=others, label=label, unusable=unusable)


def _read_lists(
    names: Sequence[str], read_list: ReadList, keys: set[str]
) -> tuple[dict[str, Table], list[tuple[str, str]]]:
    """Returns the lists that can be used by their stem, and name and reason of those that cannot, or only in part."""
    tables: dict[str, Table] = {}
    unusable: list[tuple[str, str]] = []
    for name in names:
        if not (match := _LIST.search(name)):
            continue
        try:
            table = _read_table(lines_of(read_list(name)), _READERS[match[1]])
            num_named = len(keys & table.rows.keys())
            if num_named < LEAST_SHARE * len(keys):
                why = f": {table.problems}" if table.problems.count else ""
                raise ListError(f"it is not used, since it names {num_named} of {len(keys)} pictures{why}")
        except ListError as error:
            unusable.append((name, str(error)))
            continue
        if table.problems.count:
            unusable.append((name, str(table.problems)))
        tables[match[1]] = table
    return tables, unusable


ReadRow = Callable[[list[str], list[str]], list[int]]
"""A function that turns the heading and the cells behind the picture's name into numbers; raises ValueError."""


def _identity(_: list[str], cells: list[str]) -> list[int]:
    if abs(identity := _first_number(cells)) > _LARGEST_IDENTITY:
        raise ValueError(f"number the identities from 1 to {_LARGEST_IDENTITY}")
    return [identity]


def _part(_: list[str], cells: list[str]) -> list[int]:
    if (part := _first_number(cells)) not in (TRAIN, VALIDATION, TEST):
        raise ValueError(f"the part {part} is not 0, 1 or 2")
    return [part]


def _attributes(heading: list[str], cells: list[str]) -> list[int]:
    if len(cells) != len(heading):
        raise ValueError(f"{len(cells)} values for {len(heading)} attributes")
    if len(heading) > MOST_FACTORS:
        raise ValueError(f"more than {MOST_FACTORS} attributes")
    return [int(cell) for cell in cells]


def _first_number(cells: list[str]) -> int:
    if not cells:
        raise ValueError("a picture's name alone")
    return int(cells[0])


_READERS: dict[str, ReadRow] = {_IDENTITIES: _identity, _ATTRIBUTES: _attributes, _PARTITION: _part}


def _read_table(lines: Iterator[tuple[int, list[str]]], read_row: ReadRow) -> Table:
    """Reads a list; the lines that cannot be read are noted in its problems.

    Args:
        lines: Numbers and cells of the lines.
        read_row: Reads the cells of a row.

    Raises:
        ListError: The list cannot be split into lines.
    """
    table, announced = Table(), None
    for number, cells in lines:
        if number == 1 and len(cells) == 1 and cells[0].isdecimal():
            announced = int(cells[0][:18])  # list_attr_celeba.txt begins with the number of pictures.
        elif has_picture_suffix(cells[0]):
            try:
                table.rows[PurePosixPath(cells[0]).stem] = read_row(table.heading, cells[1:])
            except ValueError as error:
                table.problems.add(number, str(error))
        elif table.rows or table.heading or table.problems.count:
            table.problems.add(number, "expected a picture's name")
        elif number > 2 or "<" in cells[0]:
            table.problems.add(number, "expected a heading or a picture's name")
        else:
            table.heading = cells[1:] if cells[0] == "image_id" else cells
    if announced is not None and announced > len(table.rows) + table.problems.count:
        table.problems.add(number, f"the list ends after {len(table.rows)} of {announced} pictures")
    return table


def _labels(columns: dict[str, list[list[int]]], attributes: list[str], split: str) -> Labels:
    people = [row[0] for row in columns.get(_IDENTITIES, [])]
    partition = [row[0] for row in columns.get(_PARTITION, [])]
    places: NDArray[np.uint8] | None = None
    if split == "official" and partition:
        places = np.array(partition, np.uint8)
    elif split != "none" and people:
        places = split_by_group([str(person) for person in people])
    factors = (np.array(columns[_ATTRIBUTES]) > 0).astype(np.uint16) if _ATTRIBUTES in columns else None
    return Labels(
        factors=factors,
        factor_names=tuple(attributes) if factors is not None else (),
        factor_sizes=(2,) * len(attributes) if factors is not None else (),
        split=places,
        identities=np.array(people, np.int32) if people else None,
    )
