"""What the commands print: a progress bar on a terminal, plain lines in a log, and errors of one line."""

import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column, Table
from rich.text import Text

from worker.progress_text import RemainingTime, progress_line

LINE_SECONDS = 10.0
"""Time between two lines of progress in a log."""
LINE_WIDTH = 80
"""Longest line of progress in a log, in columns."""
LABEL_WIDTH = 24
"""Longest label at the beginning of a line of progress, in columns."""
BAR_WIDTH = 10
_LEAST_WIDTH = 12
"""Least width of a column of a table whose cells may be folded, in columns of the terminal."""


class CliError(RuntimeError):
    """A command cannot be carried out; the message is a sentence."""


def fail(message: str) -> None:
    """Prints an error as one line on standard error."""
    print(f"betavae: {' '.join(message.split())}", file=sys.stderr, flush=True)


def note(message: str) -> None:
    """Prints a remark on standard error, so that standard output holds only results."""
    print(message, file=sys.stderr, flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, whole: Collection[str]) -> None:
    """Prints a table on standard output.

    Args:
        columns: The headings.
        rows: The cells.
        whole: Columns that are never cut or folded, such as ids, which are copied from here; a narrow terminal breaks
            the lines itself.
    """
    table = Table(*(Column(name, no_wrap=name in whole, overflow="fold") for name in columns), box=None)
    for row in rows:
        table.add_row(*map(Text, row))
    widest = [max(len(text) for text in (name, *(row[k] for row in rows))) for k, name in enumerate(columns)]
    least = sum(
        width if name in whole else max(len(name), min(width, _LEAST_WIDTH))
        for name, width in zip(columns, widest, strict=True)
    )
    Console(width=max(Console().width, least + 2 * len(columns))).print(table)


class Report(Protocol):
    """A function that is called with the progress of a piece of work."""

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Shows the progress.

        Args:
            done: Number of steps that are done.
            total: Number of all steps.
            text: Details for the end of the line.
        """


@contextmanager
def progress(label: str) -> Iterator[Report]:
    """Yields a function that shows the progress of a piece of work.

    Args:
        label: The beginning of each line.
    """
    lines = _Lines(label)
    if not sys.stderr.isatty():
        yield lines.print_seldom
        return
    console = Console(stderr=True)
    bar_column = BarColumn(bar_width=BAR_WIDTH)
    with Progress(bar_column, TextColumn("{task.description}", markup=False), console=console) as bar:
        task = bar.add_task(_cut(label, console.width - BAR_WIDTH - 1), total=None)

        def report(done: int, total: int, text: str = "") -> None:
            line = _cut(lines.line(done, total, text), console.width - BAR_WIDTH - 1)
            bar.update(task, completed=done, total=total, description=line)

        yield report


class _Lines:
    """The lines that show the progress of one piece of work."""

    def __init__(self, label: str) -> None:
        self._label = _cut(label, LABEL_WIDTH)
        self._next = time.monotonic() + LINE_SECONDS
        self._remaining = RemainingTime()

    def line(self, done: int, total: int, text: str) -> str:
        """Returns the line of a report."""
        seconds_left = self._remaining.seconds(done, total, time.monotonic())
        return f"{self._label}: {progress_line(done, total, seconds_left, text)}"

    def print_seldom(self, done: int, total: int, text: str = "") -> None:
        """Prints the line of a report if it is the last one or LINE_SECONDS have passed since the last line."""
        line = self.line(done, total, text)
        if done < total and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LINE_SECONDS
        note(_cut(line, LINE_WIDTH))


def _cut(text: str, width: int) -> str:
    """Returns a text that is at most `width` columns wide, with an ellipsis if it was cut."""
    whole = Text(text)
    whole.truncate(width, overflow="ellipsis")
    return whole.plain
