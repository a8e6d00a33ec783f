"""Lists of labels as text: encodings, separators, and the lines that cannot be used; free of torch."""

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from sys import intern

from training.data.layouts.layout import ListError

_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_SEPARATORS = (";", "\t", ",")
_NUM_SAMPLE_LINES = 20
MOST_LINES = 2_000_000
"""Largest number of lines; reading so many takes ten seconds."""
MOST_CHARACTERS = 2**20
"""Largest length of a line."""
MOST_FACTORS = 256
LEAST_SHARE = 0.5
"""Share of the pictures that a list must name; labels for fewer are not worth the pictures without one."""


@dataclass
class Problems:
    """The lines of a list that cannot be used."""

    first: str = ""
    count: int = 0

    def add(self, line: int, reason: str) -> None:
        """Notes a line."""
        self.first = self.first or f"line {line}: {reason}"
        self.count += 1

    def __str__(self) -> str:
        return self.first + (f"; and {self.count - 1} more lines" if self.count > 1 else "")


@dataclass
class Table:
    """A list that was read."""

    heading: list[str] = field(default_factory=list)
    rows: dict[str, list[int]] = field(default_factory=dict)
    """The numbers of each row, by the picture's name without its suffix."""
    problems: Problems = field(default_factory=Problems)


def decoded(data: bytes) -> str:
    """Returns the text of a list: UTF-16 with a mark, UTF-8, or else Windows-1252, as spreadsheets save it."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def lines_of(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the cells of each line that is not empty.

    Cells are separated by semicolons, tabs or commas where most of the first lines have one, else by spaces. Equal
    cells are one object, since a table has few texts that differ.

    Raises:
        ListError: The list is empty or has too many lines, or a line or a cell is too long.
    """
    text = decoded(data)
    if text.count("\n") + text.count("\r") - text.count("\r\n") > MOST_LINES:
        raise ListError(f"it has more than {MOST_LINES} lines")
    sample = [line for line in islice(_lines(text), 2 * _NUM_SAMPLE_LINES) if line.strip()][:_NUM_SAMPLE_LINES]
    if not sample:
        raise ListError("it is empty")
    lines = _lines(text)
    separator = next((s for s in _SEPARATORS if 2 * sum(s in line for line in sample) >= len(sample)), None)
    if separator is None:
        yield from (
            (number, cells) for number, line in enumerate(lines, 1) if (cells := list(map(intern, line.split())))
        )
        return
    reader = csv.reader(lines, delimiter=separator)
    try:
        for row in reader:
            cells = [intern(cell.strip()) for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ListError(f"line {reader.line_num}: {error}") from error


def _lines(text: str) -> Iterator[str]:
    """Yields the lines of a text with their ends.

    Raises:
        ListError: One is too long.
    """
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if len(line) > MOST_CHARACTERS:
            raise ListError(f"line {number} has more than {MOST_CHARACTERS} characters")
        yield line
