"""The members of a sweep: the cells of a grid or a list of settings, and their names. This module loads no torch."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.config import ConfigError

MAX_MEMBERS = 200
"""Largest number of trainings of a sweep; the comparison looks at each two of them."""
SEED = "seed"
"""The setting over which the members of a cell are repeated."""
MAX_NAME_LENGTH = 100
MAX_VALUE_LENGTH = 40
"""Characters of a value that a message or a label repeats."""

Settings = dict[str, Any]


def expand(
    grid: Mapping[str, Any] | None, members: Sequence[Mapping[str, Any]] | None, config: Mapping[str, Any]
) -> list[Settings]:
    """Returns the settings in which each member of a sweep differs from the others.

    Args:
        grid: The values of each setting, which are combined in every way, the last setting fastest; or None.
        members: The settings of each member; or None.
        config: The settings that all members share.

    Raises:
        ConfigError: Not exactly one of grid and members is given, it is empty or too large, or a setting or a
            value occurs twice.
    """
    if (grid is None) == (members is None):
        raise ConfigError("grid", "is missing: give either grid or members" if grid is None else "excludes members")
    if grid is not None:
        return _cells(grid, config)
    found = [dict(settings) for settings in members or ()]
    if not found:
        raise ConfigError("members", "is empty: give the settings of at least one training")
    _check_number("members", len(found))
    for settings in found:
        _check_shared("members", settings, config)
    _check_different("members", found)
    return found


def _cells(grid: Mapping[str, Any], config: Mapping[str, Any]) -> list[Settings]:
    if not grid:
        raise ConfigError("grid", "is empty: give at least one setting with its values")
    for name, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise ConfigError("grid", f"{name} must be a list of at least one value")
    _check_number("grid", math.prod(len(values) for values in grid.values()))
    for name, values in grid.items():
        _check_values(name, values)
    _check_shared("grid", grid, config)
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _check_values(name: str, values: Iterable[Any]) -> None:
    seen: set[str] = set()
    for value in values:
        key = settings_key({name: value})
        if key in seen:
            raise ConfigError("grid", f"{name} has the value {value_text(value)} twice")
        seen.add(key)


def _check_shared(field: str, settings: Iterable[str], config: Mapping[str, Any]) -> None:
    for name in settings:
        if name in config:
            raise ConfigError(field, f"{name} stands in config as well; give it in one of the two")


def _check_number(field: str, count: int) -> None:
    if count > MAX_MEMBERS:
        what = "cells" if field == "grid" else "entries"
        raise ConfigError(field, f"has {count} {what}; a sweep trains at most {MAX_MEMBERS} models")


def _check_different(field: str, members: Sequence[Settings]) -> None:
    seen: dict[str, int] = {}
    for index, settings in enumerate(members):
        first = seen.setdefault(settings_key(settings), index)
        if first != index:
            raise ConfigError(field, f"has {cell_text(settings)} twice, at {first} and {index}")


def value_text(value: Any) -> str:
    """Returns the value of a setting for people, such as 0.5, true or adam."""
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}…"


def cell_text(settings: Mapping[str, Any]) -> str:
    """Returns settings as people write a cell, such as {seed: 1, beta: 4}."""
    return "{" + ", ".join(f"{name}: {value_text(value)}" for name, value in settings.items()) + "}"


def cell_of(settings: Mapping[str, Any]) -> Settings:
    """Returns the settings of a member without its seed; members that share them are repetitions."""
    return {name: value for name, value in settings.items() if name != SEED}


def settings_key(settings: Mapping[str, Any]) -> str:
    """Returns a text that two settings share if they mean the same, whatever their order; 4 and 4.0 are the same."""
    whole = {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in settings.items()}
    return json.dumps(whole, sort_keys=True)


def cell_key(settings: Mapping[str, Any]) -> str:
    """Returns the `settings_key` of a member's cell, which its repetitions share."""
    return settings_key(cell_of(settings))


def label_of(settings: Mapping[str, Any]) -> str:
    """Returns the settings of a member as a short label, such as beta 4, seed 1."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in settings.items())


def member_name(name: str, index: int, settings: Mapping[str, Any]) -> str:
    """Returns the name of a member's job and model: the sweep's, and the member's settings where they fit.

    Args:
        name: The sweep's name.
        index: Position of the member.
        settings: Its settings.
    """
    words = re.sub(r"[^A-Za-z0-9 ._()-]", "", label_of(settings).replace(", ", " "))
    full = f"{name} {words}".strip()
    return full if len(full) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 8].strip()} {index}"
