"""Ids that are made of names, and names in the place of ids. This module loads no torch."""

import itertools
import re
from collections.abc import Callable, Iterable

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_SHOWN = 10
"""Number of candidates that a message about an ambiguous name lists."""


def is_id(text: str) -> bool:
    """Returns whether a text can be the id of a model or data set."""
    return _ID.fullmatch(text) is not None


def slug(name: str, *, otherwise: str = "unnamed") -> str:
    """Returns a name as an id of small letters, digits and dashes, at most 60 characters.

    Args:
        name: The name.
        otherwise: The id of a name without any letter or digit.
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or otherwise


def free_id(base: str, is_taken: Callable[[str], bool]) -> str:
    """Returns the first of base, base-2, base-3 and so on that is not taken."""
    candidates = (base if number == 1 else f"{base}-{number}" for number in itertools.count(1))
    return next(candidate for candidate in candidates if not is_taken(candidate))


class AmbiguousName(ValueError):
    """Several things have the name, so that only their ids tell them apart."""

    def __init__(self, what: str, name: str, candidates: list[str]) -> None:
        """Takes what is named so.

        Args:
            what: The kind of thing, in the plural.
            name: The name.
            candidates: The ids of the things that have it.
        """
        shown = ", ".join(candidates[:_SHOWN]) + (", …" if len(candidates) > _SHOWN else "")
        super().__init__(f"{len(candidates)} {what} have the name {name}: {shown}; give one of these ids.")
        self.candidates = candidates[:_SHOWN]


def id_of_name(what: str, name: str, named: Iterable[tuple[str, str]]) -> str | None:
    """Returns the id of the only thing with a name, or None if there is none.

    Args:
        what: The kind of thing, in the plural.
        name: The name.
        named: Id and name of each thing.

    Raises:
        AmbiguousName: Several things have the name.
    """
    candidates = [one_id for one_id, one_name in named if one_name == name]
    if len(candidates) > 1:
        raise AmbiguousName(what, name, candidates)
    return candidates[0] if candidates else None
