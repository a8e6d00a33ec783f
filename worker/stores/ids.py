"""Ids that are made of names. This module loads no torch."""

import itertools
import re
from collections.abc import Callable

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")


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
