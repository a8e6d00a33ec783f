"""Reading of request bodies: strict JSON and bounded forms; errors name the part that is malformed."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, get_args

import anyio
from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from app import body_limits
from app.dependencies import get_services
from app.problems import Problem, invalid, unknown_field
from app.requests import AnyBody, check_body
from models import strict_json

MAX_FORM_BYTES = 64 * 1024
"""Largest urlencoded form; decoding one of 256 KiB holds the event loop for 170 ms."""
PLACE_SECONDS = 10.0
"""Longest wait of a body for a place; it is part of the time that a body has."""
CHARSETS = (b"utf-8", b"utf8", b"us-ascii")
MAX_FIELDS = 64
MAX_FIELD_BYTES = 256 * 1024
FORM_OVERHEAD_BYTES = 512 * 1024
"""Largest size of a form without its files, which are on the disk; the rest is in memory until the form ends."""
THREAD_BYTES = 8 * 1024
"""JSON longer than this is parsed in a thread: 1 MiB takes up to .4 s."""


def media_type(request: Request) -> str:
    """Returns the body's media type, in lower case, without parameters."""
    return body_limits.media_type(request.headers)


async def read_body(request: Request, kind: type[AnyBody]) -> AnyBody:
    """Returns the JSON body as an instance of its model.

    Args:
        request: The request.
        kind: The model.

    Raises:
        Problem: The body is not strict JSON, or a field is wrong.
    """
    return check_body(kind, await read_json(request))


async def read_json(request: Request) -> dict[str, Any]:
    """Returns the body as a JSON object.

    NaN, Infinity, lone surrogates, deep nesting and other values are refused (422).
    """
    kind = media_type(request)
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem("unsupported_media_type", f"Send application/json, not {kind or 'a body without a type'}.")
    async with _place(request):
        data = await request.body()
    if len(data) <= THREAD_BYTES:
        return parse_json_object(data, "body")
    limiter = get_services(request).parsing
    return await anyio.to_thread.run_sync(parse_json_object, data, "body", limiter=limiter)


def parse_json_object(data: bytes | str, field: str) -> dict[str, Any]:
    """Returns the object that strict JSON holds.

    Args:
        data: The JSON text.
        field: The name of its place, for errors.

    Raises:
        Problem: The text is not strict JSON, or not an object.
    """
    value = parse_json(data, field)
    if not isinstance(value, dict):
        raise invalid(field, "must be a JSON object")
    return value


def parse_json(data: bytes | str, field: str) -> Any:
    """Returns the value that strict JSON holds: with finite numbers, bounded nesting, and text that UTF-8 can hold.

    Args:
        data: The JSON text.
        field: The name of its place, for errors.

    Raises:
        Problem: The text is not strict JSON.
    """
    try:
        return strict_json.loads(data, whole=True)
    except ValueError as error:
        raise invalid(field, f"is not JSON: {error}") from error


@asynccontextmanager
async def read_form(request: Request, kind: type[AnyBody]) -> AsyncIterator[AnyBody]:
    """Opens the body as an instance of a form's model; the spooled files are gone when the block ends.

    A text field that is blank counts as absent, and so does a file field in which no file was chosen.

    Args:
        request: The request.
        kind: The model of the form.

    Raises:
        Problem: The media type is another one, a name is unknown or repeated, a text stands in the place of a file or
            the other way round, or a field is wrong.
    """
    sent = media_type(request)
    if sent not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise Problem("unsupported_media_type", f"Send multipart/form-data, not {sent or 'a body without a type'}.")
    names = {field.alias or name for name, field in kind.model_fields.items()}
    files = {name for name, field in kind.model_fields.items() if UploadFile in _types(field.annotation)}
    async with _place(request):
        data = await _parse_form(request, len(files))
    try:
        values: dict[str, str | UploadFile] = {}
        seen: set[str] = set()
        for name, value in data.multi_items():
            if name not in names:
                raise unknown_field(name, names)
            if name in seen:
                raise invalid(name, "is given more than once")
            if name in files and _is_left_empty(value):
                continue
            seen.add(name)
            if isinstance(value, UploadFile):
                if name not in files:
                    raise invalid(name, "must be a text, not a file")
            elif name in files:
                raise invalid(name, "must be a file")
            else:
                _check_text(name, value)
                if not value.strip():
                    continue
            values[name] = value
        yield check_body(kind, values)
    finally:
        await data.close()


@asynccontextmanager
async def _place(request: Request) -> AsyncIterator[None]:
    """Holds one of the places of bodies that are read into memory.

    Raises:
        Problem: The client has had all its places for too long (too_many_requests).
    """
    try:
        with anyio.fail_after(PLACE_SECONDS):
            leave = await get_services(request).bodies.take()
    except TimeoutError:
        detail = "Too many request bodies are being received, from this client or in total. Try again later."
        raise Problem("too_many_requests", detail, headers={"Retry-After": "10"}) from None
    try:
        yield
    finally:
        leave()


class _FormParser(MultiPartParser):
    """Starlette's parser of multipart forms, which also bounds all texts together."""

    spool_max_size = 256 * 1024
    text_bytes = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            self.text_bytes += end - start
            if self.text_bytes > FORM_OVERHEAD_BYTES:
                raise MultiPartException(f"The form's texts have more than {FORM_OVERHEAD_BYTES} bytes.")
        super().on_part_data(data, start, end)


async def _parse_form(request: Request, num_files: int) -> FormData:
    """Returns the fields of a form; its files are to be closed.

    Raises:
        HTTPException: The form is malformed, has too many fields or too much text, or is not in UTF-8.
    """
    if media_type(request) != "multipart/form-data":
        return await request.form(max_files=num_files, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    _, options = parse_options_header(request.headers.get("content-type"))
    # Python's other encodings are no concern of ours, and punycode's decoder takes 10 s for 250 kB.
    if options.get(b"charset", b"utf-8").lower() not in CHARSETS:
        raise HTTPException(400, "A form's charset must be utf-8.")
    try:
        async with aclosing(request.stream()) as stream:
            limits = {"max_files": num_files, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES}
            return await _FormParser(request.headers, stream, **limits).parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from error


def _types(annotation: Any) -> tuple[Any, ...]:
    """Returns the types that an annotation consists of."""
    parts = get_args(annotation)
    return (annotation,) if not parts else tuple(one for part in parts for one in _types(part))


def _is_left_empty(value: UploadFile | str) -> bool:
    """Returns whether a browser sent a file field in which no file was chosen."""
    return value == "" or (isinstance(value, UploadFile) and not value.filename and not value.size)


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise invalid(name, "is not UTF-8") from error
