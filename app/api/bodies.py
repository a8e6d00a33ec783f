"""Reading of request bodies: strict JSON and bounded multipart forms; whatever is malformed is named."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from fastapi import Request
from starlette.datastructures import UploadFile

from app import body_limits
from app.dependencies import get_services
from app.problems import Problem, invalid
from models import strict_json

MAX_FORM_BYTES = 64 * 1024
"""Largest urlencoded form; decoding one of 256 KiB holds the event loop for 170 ms."""
MAX_FIELDS = 64
MAX_FIELD_BYTES = 256 * 1024
FORM_OVERHEAD_BYTES = 512 * 1024
"""What a form may weigh beside its file."""
THREAD_BYTES = 8 * 1024
"""JSON longer than this is parsed in a thread: 1 MiB takes up to .4 s."""


def media_type(request: Request) -> str:
    """The body's media type, in lower case, without parameters."""
    return body_limits.media_type(request.headers)


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object. NaN, Infinity, lone surrogates, deep nesting and other values are refused (422)."""
    kind = media_type(request)
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem("unsupported_media_type", f"Send application/json, not {kind or 'a body without a type'}.")
    data = await request.body()
    if len(data) <= THREAD_BYTES:
        return parse_json_object(data, "body")
    limiter = get_services(request).parsing
    return await anyio.to_thread.run_sync(parse_json_object, data, "body", limiter=limiter)


def parse_json_object(data: bytes | str, field: str) -> dict[str, Any]:
    """Strict JSON, an object at the top. Raises Problem that names `field`."""
    value = parse_json(data, field)
    if not isinstance(value, dict):
        raise invalid(field, "must be a JSON object")
    return value


def parse_json(data: bytes | str, field: str) -> Any:
    """Strict JSON: finite numbers, bounded nesting, text that UTF-8 can hold. Raises Problem that names `field`."""
    try:
        value = strict_json.loads(data)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError as error:
        raise invalid(field, f"is not JSON: {_printable(error)}") from error
    return value


def _printable(error: ValueError) -> str:
    return "text that UTF-8 cannot hold" if isinstance(error, UnicodeError) else str(error)


@dataclass(frozen=True)
class Form:
    """A form's text fields and files, each name at most once."""

    values: dict[str, str]
    files: dict[str, UploadFile]


@asynccontextmanager
async def read_form(request: Request, fields: set[str], files: set[str]) -> AsyncIterator[Form]:
    """The body as a form; the spooled files are gone when the block ends.

    Args: fields and files, the names that are known.
    Raises: Problem for another media type, unknown or repeated names, a text where a file belongs, and vice versa.
    """
    kind = media_type(request)
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise Problem("unsupported_media_type", f"Send multipart/form-data, not {kind or 'a body without a type'}.")
    async with request.form(max_files=len(files), max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as data:
        form = Form({}, {})
        for name, value in data.multi_items():
            if name not in fields | files:
                known = ", ".join(sorted(fields | files))
                raise invalid(name[:100], f"is no field of this form; it has {known}")
            if name in form.values or name in form.files:
                raise invalid(name, "is given more than once")
            if name in files and _is_left_empty(value):
                continue
            if isinstance(value, UploadFile):
                if name not in files:
                    raise invalid(name, "must be a text, not a file")
                form.files[name] = value
            elif name in files:
                raise invalid(name, "must be a file")
            else:
                _check_text(name, value)
                form.values[name] = value
        yield form


def _is_left_empty(value: UploadFile | str) -> bool:
    """Whether a browser sent a file field in which no file was chosen."""
    return value == "" or (isinstance(value, UploadFile) and not value.filename and not value.size)


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise invalid(name, "is not UTF-8") from error
