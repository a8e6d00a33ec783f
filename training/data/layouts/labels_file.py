"""Pictures beside a table of their labels, labels.csv or the metadata.csv of Hugging Face; free of torch."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from training.data.images import has_picture_suffix
from training.data.layouts.class_folders import PARTS
from training.data.layouts.layout import Labels, Layout, ListError, ReadList, complete_split, split_by_group
from training.data.layouts.lists import LEAST_SHARE, MOST_FACTORS, Problems, lines_of
from training.data.layouts.quantities import MOST_CLASSES, is_quantity, ranks_of, value_columns
from training.data.sources import DatasetError

_FILES = frozenset(f"{stem}.{suffix}" for stem in ("labels", "metadata") for suffix in ("csv", "tsv"))
_NAME_COLUMNS = frozenset(["file", "filename", "file_name", "image", "image_id", "img", "name", "path", "picture"])
_SPLIT_COLUMNS = frozenset(["split", "partition", "subset"])
_IDENTITY_COLUMNS = frozenset(["identity", "person", "subject"])
_LEAST_TEXTS = 20
"""Number of rows from which a column with another text in most rows is a description, and no factor."""


Find = Callable[[str], str | None]
"""A function that returns the path of the picture that a cell names, or None."""


@dataclass
class _Rows:
    """The rows of all tables that were read."""

    heading: list[str] = field(default_factory=list)
    cells: dict[str, list[str]] = field(default_factory=dict)
    """The cells of each picture, by its path."""
    unusable: list[tuple[str, str]] = field(default_factory=list)


def has_labels_file(names: Sequence[str]) -> bool:
    """Returns True if a table of labels lies beside pictures."""
    return bool(_tables(names)) and any(map(has_picture_suffix, names))


def read_labels_file(names: Sequence[str], read_list: ReadList, split: str) -> Layout:
    """Reads pictures whose labels are in a table.

    One column names the pictures; each other column is a factor, apart from `split` (train, validation or test) and
    `identity`. Numbers are numbered in order, texts by the alphabet; no text at all is a value among texts, and no
    number makes a row unusable. Pictures that the table does not name are left out, but where it names fewer than half
    of them, or cannot be read, all are packed without labels.

    Args:
        names: Relative POSIX paths of all files.
        read_list: Returns the bytes of a table.
        split: See ImageFolder.split.

    Raises:
        DatasetError: wrong_layout if there is no table; bad_labels if the split needs identities that are missing.
    """
    tables = _tables(names)
    if not tables:
        raise DatasetError("wrong_layout", "there is no labels.csv beside the pictures")
    pictures = [name for name in names if name not in tables and has_picture_suffix(name)]
    rows = _Rows()
    for table in tables:
        try:
            _read_table(table, read_list, pictures, rows)
        except ListError as error:
            rows.unusable.append((table, str(error)))
    if len(rows.cells) < LEAST_SHARE * len(pictures):
        why = f"it is not used, since it names {len(rows.cells)} of {len(pictures)} pictures"
        rows = _Rows(unusable=rows.unusable or [(tables[0], why)])
    kept = [name for name in pictures if name in rows.cells] or pictures
    columns = _columns(rows, kept, tables[0])
    if split == "identity" and columns.identities is None:
        raise DatasetError("bad_labels", f"a split by identity needs a column identity in {tables[0]}")
    rows_of = {name: row for row, name in enumerate(kept)}

    def label(chosen: Sequence[str]) -> Labels:
        return _chosen(columns, [rows_of[name] for name in chosen], split)

    listed = {*kept, *tables}
    others = [name for name in names if name not in listed]
    return Layout(kind="labels", names=kept, unlabelled=others, label=label, unusable=rows.unusable)


def _tables(names: Sequence[str]) -> list[str]:
    return [name for name in names if PurePosixPath(name).name.lower() in _FILES]


def _read_table(table: str, read_list: ReadList, pictures: Sequence[str], rows: _Rows) -> None:
    """Adds the rows of a table, and notes the lines that cannot be used.

    Raises:
        ListError: The table cannot be read, has no column of names, or another heading than the one before.
    """
    lines = lines_of(read_list(table))
    find = _finder(table, pictures)
    number, first = next(lines, (0, []))
    if not first:
        raise ListError("it is empty")
    heading = [cell.lower() for cell in first]
    if any(find(cell) or has_picture_suffix(cell) for cell in first):  # There is no heading.
        lines = chain([(number, first)], lines)
        column = next((i for i, cell in enumerate(first) if find(cell) or has_picture_suffix(cell)), 0)
        others = len(heading) - 1
        heading = ["label"] if others == 1 else [f"factor_{i}" for i in range(1, others + 1)]
        heading.insert(column, "file")
    else:
        column = next((i for i, cell in enumerate(heading) if cell in _NAME_COLUMNS), 0)
    del heading[column]
    if rows.heading and heading != rows.heading:
        raise ListError(f"it is not used, since its columns are not those of another table, {', '.join(rows.heading)}")
    found: dict[str, list[str]] = {}
    line_of: dict[str, int] = {}
    unusable: list[tuple[int, str]] = []
    for number, cells in lines:
        try:
            name = _named(find, cells, column, len(heading))
        except ValueError as error:
            unusable.append((number, str(error)))
        else:
            found[name], line_of[name] = cells[:column] + cells[column + 1 :], number
    for index in _needed(heading, list(found.values())):
        for name in [name for name, values in found.items() if values[index] == ""]:
            unusable.append((line_of[name], f"no value of {heading[index]}"))
            del found[name]
    rows.heading, rows.cells = heading, rows.cells | found
    if unusable:
        problems = Problems()
        for line in sorted(unusable):
            problems.add(*line)
        rows.unusable.append((table, str(problems)))


def _named(find: Find, cells: list[str], column: int, num_values: int) -> str:
    """Returns the path of the picture that a row is about.

    Raises:
        ValueError: There is no such picture, or the row has another number of cells.
    """
    if len(cells) != num_values + 1:
        raise ValueError(f"{len(cells)} cells, not {num_values + 1}")
    name = find(cells[column])
    if name is None:
        raise ValueError(f"no picture {cells[column][:80]!r}")
    return name


def _needed(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Returns the columns with empty cells that are missing values: those of numbers, the split and the identity.

    In a column of texts it is a value like any other: a face without glasses has nothing under "glasses".
    """
    needed = []
    for index, name in enumerate(heading):
        filled = [values[index] for values in rows if values[index]]
        if len(filled) == len(rows):
            continue
        if name in _SPLIT_COLUMNS | _IDENTITY_COLUMNS or (filled and _floats(filled) is not None):
            needed.append(index)
    return needed


def _finder(table: str, pictures: Sequence[str]) -> Find:
    """Returns the function that finds a picture by its path from the table, or by its name if only one has it."""
    folder = PurePosixPath(table).parent
    below = [name for name in pictures if PurePosixPath(name).is_relative_to(folder)]
    found: dict[str, str] = {}
    for key_of in (PurePosixPath.as_posix, lambda p: p.name, lambda p: p.stem):
        keys = [key_of(PurePosixPath(name).relative_to(folder)) for name in below]
        counts = Counter(keys)
        found = {key: name for key, name in zip(keys, below, strict=True) if counts[key] == 1} | found
    return lambda cell: found.get(PurePosixPath(cell.replace("\\", "/")).as_posix())


def _columns(rows: _Rows, kept: Sequence[str], table: str) -> Labels:
    """Turns the cells of the kept pictures into labels; a column that cannot be used is noted."""
    factors: list[NDArray[np.uint16]] = []
    values: list[NDArray[np.float64] | None] = []
    names: list[str] = []
    places: NDArray[np.uint8] | None = None
    identities: NDArray[np.int32] | None = None
    for index, heading in enumerate(rows.heading if rows.cells else []):
        cells = [rows.cells[name][index] for name in kept]
        try:
            if heading in _SPLIT_COLUMNS:
                places = np.array([_part(cell) for cell in cells], np.uint8)
            elif heading in _IDENTITY_COLUMNS:
                numbers = {person: number for number, person in enumerate(sorted(set(cells)))}
                identities = np.array([numbers[person] for person in cells], np.int32)
            elif len(factors) < MOST_FACTORS:
                classes, quantity = _factor(cells)
                factors.append(classes)
                values.append(quantity)
                names.append(heading)
        except ValueError as error:
            rows.unusable.append((table, f"column {heading}: {error}"))
    return Labels(
        factors=np.stack(factors, axis=1) if factors else None,
        factor_names=tuple(names),
        factor_sizes=tuple(int(column.max()) + 1 for column in factors),
        split=places,
        identities=identities,
        values=value_columns(values),
    )


def _part(cell: str) -> int:
    part = PARTS.get(cell.lower(), cell)
    if str(part) not in ("0", "1", "2"):
        raise ValueError(f"{cell[:40]!r} is not one of train, validation and test; no split is taken from it")
    return int(part)


def _factor(cells: list[str]) -> tuple[NDArray[np.uint16], NDArray[np.float64] | None]:
    """Numbers the distinct values of a column: numbers in order, texts by the alphabet.

    Returns:
        The classes (N,); and the values (N,) of a column of numbers that are not all whole, or None.
    """
    numbers = _numbers(cells)
    if numbers is not None:
        return ranks_of(numbers), numbers if is_quantity(numbers) else None
    distinct = sorted(set(cells))
    if len(distinct) > MOST_CLASSES:
        raise ValueError(f"more than {MOST_CLASSES} values; it is not a factor")
    if len(cells) >= _LEAST_TEXTS and 2 * len(distinct) > len(cells):
        raise ValueError(f"{len(distinct)} different texts for {len(cells)} pictures; it is not a factor")
    places = {text: number for number, text in enumerate(distinct)}
    return np.array([places[text] for text in cells], np.uint16), None


def _numbers(cells: list[str]) -> NDArray[np.float64] | None:
    """Returns the numbers of a column, (N,); None if a cell is another text."""
    found = _floats(cells)
    if found is None:
        return None
    numbers = np.array(found)
    if not np.isfinite(numbers).all():
        raise ValueError("a value is not finite; it is not a factor")
    return numbers


def _floats(cells: Sequence[str]) -> list[float] | None:
    try:
        return [float(cell.replace(",", ".")) for cell in cells]
    except ValueError:
        return None


def _chosen(labels: Labels, rows: list[int], split: str) -> Labels:
    """Returns the labels of some rows, with the split that was asked for."""
    identities = None if labels.identities is None else labels.identities[rows]
    places = complete_split(labels.split[rows]) if labels.split is not None and split == "official" else None
    if places is None and split != "none" and identities is not None:
        places = split_by_group([str(identity) for identity in identities])
    return Labels(
        factors=None if labels.factors is None else labels.factors[rows],
        factor_names=labels.factor_names,
        factor_sizes=labels.factor_sizes,
        split=places,
        identities=identities,
        values=None if labels.values is None else labels.values[rows],
    )
