"""`betavae train --seeds`: one run for each seed, one after another."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.output import CliError, note
from models.config import ConfigError

MAX_SEEDS = 100

SeedsOption = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        help="Train one model for each of these seeds, such as 0-4 or 0,1,7, one after another; -s0 … is added to "
        "the names.",
        show_default=False,
    ),
]


def parse_seeds(text: str | None, given: Mapping[str, Any]) -> list[int]:
    """Returns the seeds of an option such as 0-4 or 0,1,7-9, in its order; none without the option.

    Args:
        text: The option.
        given: The settings that the command names.

    Raises:
        ConfigError: The text names no seeds, one of them twice or too many, or stands beside a seed.
    """
    if text is None:
        return []
    if given.get("seed") is not None:
        raise ConfigError("seeds", "excludes seed; give one of them")
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part)
        if match is None:
            raise ConfigError("seeds", f"must be numbers from 0 such as 0-4 or 0,1,7, not {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ConfigError("seeds", f"{first}-{last} goes backwards")
        if len(seeds) + last - first + 1 > MAX_SEEDS:
            raise ConfigError("seeds", f"may name at most {MAX_SEEDS} seeds")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise ConfigError("seeds", f"names a seed twice: {text}")
    return seeds


def runs_of_seeds(
    given: dict[str, Any], name: str, folder: Path, seeds: list[int]
) -> Iterator[tuple[dict[str, Any], str, Path]]:
    """Yields settings, name and folder of each run, and says which one begins.

    Args:
        given: The settings that the command names.
        name: The name, to which -s0 and so on is added.
        folder: The folder, to whose name the same is added.
        seeds: The seeds; none makes one run with the settings, name and folder as they are.
    """
    if not seeds:
        yield given, name, folder
    for number, seed in enumerate(seeds, 1):
        note(f"seed {seed}, run {number} of {len(seeds)}")
        yield {**given, "seed": seed}, f"{name}-s{seed}", folder.with_name(f"{folder.name}-s{seed}")


class RunStopped(CliError):
    """A signal has stopped a run, which the same command goes on with."""


class Failures:
    """The seeds whose runs have failed; the runs of the other seeds are made nevertheless."""

    def __init__(self, seeds: list[int]) -> None:
        """Takes the seeds of the command; without any, a failure ends it at once."""
        self._seeds = seeds
        self._failed: list[int] = []

    @contextmanager
    def noted(self, seed: int) -> Iterator[None]:
        """Prints the error of a seed's run as a warning, and lets the command go on.

        Raises:
            RunStopped: A signal came.
            CliError: The run failed, and the command names no seeds.
        """
        try:
            yield
        except CliError as error:
            if not self._seeds or isinstance(error, RunStopped):
                raise
            note(f"warning: seed {seed}: {error}")
            self._failed.append(seed)

    def raise_any(self) -> None:
        """Raises a CliError that names the seeds that failed, if there are any."""
        if self._failed:
            named = ", ".join(map(str, self._failed))
            raise CliError(
                f"{len(self._failed)} of {len(self._seeds)} seeds have made no model: {named}; their warnings say why"
            )
