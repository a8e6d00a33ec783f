"""What the commands print: a progress bar on a terminal, plain lines in a log, and errors of one line."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0
"""Time between two lines of progress in a log."""


class CliError(RuntimeError):
    """What the user asked for can't be done; the message is a sentence."""


def fail(message: str) -> None:
    """Prints an error, one line, on standard error."""
    print(f"betavae: {' '.join(message.split())}", file=sys.stderr, flush=True)


def note(message: str) -> None:
    """Prints a remark on standard error, so that standard output holds results alone."""
    print(message, file=sys.stderr, flush=True)


class Report(Protocol):
    """Takes how far something is; `text` says more."""

    def __call__(self, done: int, total: int, text: str = "") -> None: ...


@contextmanager
def progress(label: str) -> Iterator[Report]:
    """A report for something that takes a while."""
    if sys.stderr.isatty():
        with _bar(label) as report:
            yield report
    else:
        yield _Lines(label)


@contextmanager
def _bar(label: str) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, text="")

        def report(done: int, total: int, text: str = "") -> None:
            bar.update(task, completed=done, total=total, text=text)

        yield report


class _Lines:
    """One line at the end and every LINE_SECONDS before."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._next = time.monotonic() + LINE_SECONDS

    def __call__(self, done: int, total: int, text: str = "") -> None:
        if done < total and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LINE_SECONDS
        percent = f"{100 * done / total:.0f} %" if total else ""
        note(f"{self._label}: {done}/{total} {percent} {text}".rstrip())
