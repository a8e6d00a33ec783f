"""What requests ask for: media types, waiting times, one answer for a key, pages, byte ranges, versions of files."""

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Protocol, TypeVar

from fastapi import Header, Query, Request
from starlette.responses import Response

from app import problems
from app.problems import Problem

LEAST_WAIT_SECONDS = 5.0
"""Shortest wait for the answer to a call of a model, which cannot be asked for later.

Without it, `Prefer: wait=0` would get 503 from workers that are not busy."""
DEFAULT_WAIT_SECONDS = 10.0
FILE_WAIT_SECONDS = 60.0
"""Default wait for a picture or a film, in place of which a script seldom expects a 202 with JSON."""
MAX_WAIT_SECONDS = 60.0
PreferHeader = Annotated[
    str | None, Header(alias="Prefer", description="wait=N: the seconds to wait for the result, at most 60.")
]
MAX_KEY_LENGTH = 200
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="A request that is repeated with its key gets the first answer.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_KEY_LENGTH},
    ),
]
PageSize = Annotated[int, Query(ge=1, le=200)]
PageAfter = Annotated[str | None, Query(description="`next` of the page before.", max_length=128)]


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Entry = TypeVar("Entry", bound=_Identified)


def cut_page(found: Sequence[Entry], limit: int) -> tuple[Sequence[Entry], str | None]:
    """Returns a page of at most `limit` entries, and the id after which the next one begins, or None.

    Args:
        found: The entries from the beginning of the page on, one more than it holds if there are so many.
        limit: Largest number of entries of the page.
    """
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def check_key(idempotency_key: str | None) -> None:
    """Checks an Idempotency-Key.

    Raises:
        Problem: The key is empty or too long.
    """
    if idempotency_key is not None and not (0 < len(idempotency_key) <= MAX_KEY_LENGTH):
        raise problems.invalid("Idempotency-Key", f"must have 1 to {MAX_KEY_LENGTH} characters")


def accepted(header: str | None, offered: Sequence[str]) -> str:
    """Returns the best of the offered media types for an Accept header (RFC 9110, 12.5.1).

    Args:
        header: The Accept header; None or an empty one accepts everything.
        offered: The media types, the preferred one first, which decides between equals.

    Raises:
        Problem: No offered media type is accepted (not_acceptable).
    """
    if not header or not header.strip():
        return offered[0]
    ranges = [parsed for part in header.split(",") if (parsed := _media_range(part))]
    best, best_quality = None, 0.0
    for media_type in offered:
        quality = _quality(media_type, ranges)
        if quality > best_quality:
            best, best_quality = media_type, quality
    if best is None:
        raise Problem("not_acceptable", f"This address makes {', '.join(offered)}; none of them is accepted.")
    return best


def _media_range(part: str) -> tuple[str, float] | None:
    """Returns the name and the quality of one entry of an Accept header; None for an empty entry."""
    name, *parameters = (piece.strip() for piece in part.split(";"))
    if not name:
        return None
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return name.lower(), quality if quality == quality else 0.0


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Returns the quality of the most specific range that covers a media type, or 0."""
    family = media_type.split("/")[0] + "/*"
    for name in (media_type, family, "*/*"):
        found = [quality for range_name, quality in ranges if range_name == name]
        if found:
            return max(found)
    return 0.0


def wait_seconds(header: str | None, default: float = DEFAULT_WAIT_SECONDS) -> float:
    """Returns the seconds of `Prefer: wait=N` (RFC 7240), at most MAX_WAIT_SECONDS.

    A preference that cannot be read is ignored, as the RFC demands.

    Args:
        header: The Prefer header, if there is one.
        default: The seconds without such a preference.
    """
    for part in re.split(r"[,;]", header or ""):
        key, _, value = part.partition("=")
        if key.strip().lower() == "wait" and re.fullmatch(r"\d{1,9}", value.strip().strip('"')):
            return min(MAX_WAIT_SECONDS, float(value.strip().strip('"')))
    return default


def etag_matches(header: str | None, etag: str) -> bool:
    """Returns whether an If-None-Match header names this entity tag, by the weak comparison of RFC 9110."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def bytes_response(
    request: Request,
    data: bytes,
    media_type: str,
    *,
    filename: str | None = None,
    immutable: bool = True,
    headers: dict[str, str] | None = None,
) -> Response:
    """Returns a file's bytes with a strong ETag; answers If-None-Match (304), one Range (206, 416) and If-Range.

    Starlette's FileResponse does not fit: its ETag is made of time and size, it answers no If-None-Match, its 400
    and 416 are plain text instead of problems, and files may be in a remote storage.

    Args:
        request: The request.
        data: The whole file.
        media_type: Its media type.
        filename: Name under which a client saves it.
        immutable: True if the content of this address never changes, so that caches may keep it for ever.
        headers: Further headers.

    Raises:
        Problem: The range begins past the end (range_not_satisfiable).
    """
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    common = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable" if immutable else "no-cache",
        **(headers or {}),
    }
    if filename:
        common["Content-Disposition"] = f'inline; filename="{filename}"'
    if request.method in ("GET", "HEAD") and etag_matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=common)
    wanted = request.headers.get("range") if request.method == "GET" else None
    if wanted is not None and request.headers.get("if-range", etag) == etag:
        span = _byte_range(wanted, len(data))
        if span is not None:
            start, end = span
            common["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            return Response(data[start:end], 206, common, media_type)
    return Response(data, 200, common, media_type)


_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


def _byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Returns the start and the end of a single byte range, or None for a header that must be ignored.

    Raises:
        Problem: The range begins past the end (range_not_satisfiable).
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size or end <= start:
        raise Problem(
            "range_not_satisfiable",
            f"The file has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end
