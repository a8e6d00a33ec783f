"""Ids that are made of names, names in the place of ids, and pages of ids. This module loads no torch."""

import itertools
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from worker.stores.storage import Storage

T = TypeVar("T")

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
MAX_SLUG_LENGTH = 60
_SHOWN = 10
"""Number of candidates that a message about an ambiguous name lists."""


def is_id(text: str) -> bool:
    """Returns whether a text can be the id of a model or data set."""
    return _ID.fullmatch(text) is not None


def slug(name: str, *, otherwise: str = "unnamed") -> str:
    """Returns a name as an id of small letters, digits and dashes, at most MAX_SLUG_LENGTH characters.

    Args:
        name: The name.
        otherwise: The id of a name without any letter or digit.
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MAX_SLUG_LENGTH] or otherwise


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


def page_of(ids: Sequence[str], read: Callable[[str], T | None], limit: int | None, after: str | None) -> list[T]:
    """Returns one page of things, of which only the page is read.

    Args:
        ids: The ids of all, in order.
        read: Returns a thing by its id, or None for one that is gone or damaged.
        limit: Largest number of things; None for all.
        after: Id of the last thing of the page before; None for the first page.

    Raises:
        KeyError: `after` is none of the ids.
    """
    if after is not None and after not in ids:
        raise KeyError(after)
    begin = 0 if after is None else ids.index(after) + 1
    return list(itertools.islice(filter(None, map(read, ids[begin:])), limit))


class Descriptions(Generic[T]):
    """What a list needs to know of each folder below a prefix, taken from a file of it that describes it.

    A description is read again only when its file has changed.
    """

    def __init__(self, storage: Storage, prefix: str, name: str, read: Callable[[str], T | None]) -> None:
        """Takes the place of the descriptions.

        Args:
            storage: Where they are.
            prefix: The prefix of the folders.
            name: Name of the file in each folder.
            read: Returns what is needed by the name of a folder, or None for one that is gone or damaged.
        """
        self._storage, self._prefix, self._name, self._read = storage, prefix, name, read
        self._entries: dict[str, tuple[str, T | None]] = {}
        self._lock = threading.Lock()

    def all(self) -> dict[str, T]:
        """Returns what is known by the names of the folders, sorted by these."""
        versions = self._storage.versions(self._prefix, self._name)
        with self._lock:  # A second caller finds what the first one has read.
            before = self._entries
            self._entries = {
                name: before[name] if before.get(name, ("",))[0] == version else (version, self._read(name))
                for name, version in versions.items()
            }
            return {name: known for name, (_, known) in self._entries.items() if known is not None}
