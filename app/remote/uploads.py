"""What the client uploads: pictures of any kind as the bytes of a file, folders as a zip, and the fields of forms."""

import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from PIL import Image

from app.remote.errors import ServiceError

Picture = bytes | str | os.PathLike[str] | Image.Image
"""A picture: the bytes of a file, the path of one, or a picture of Pillow."""

_PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")


def picture_bytes(picture: Picture) -> bytes:
    """Returns a picture as the bytes of a file.

    Args:
        picture: The bytes of a file, its path, or a picture of Pillow, which becomes a PNG.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, Image.Image):
        buffer = io.BytesIO()
        (picture if picture.mode in _PNG_MODES else picture.convert("RGB")).save(buffer, "PNG")
        return buffer.getvalue()
    return Path(picture).expanduser().read_bytes()


def open_upload(source: Path) -> tuple[str, IO[bytes]]:
    """Opens what is uploaded of a data set: the file itself, or a folder's files as a zip.

    Args:
        source: A folder, or a file in a format of data sets.

    Returns:
        The file's name and the file, open for reading.

    Raises:
        OSError: There is no such file or folder, or it cannot be read.
        ServiceError: The folder holds no files (invalid_dataset).
    """
    if not source.is_dir():
        return source.name, source.open("rb")
    return f"{source.resolve().name}.zip", _zip_folder(source)


def _zip_folder(folder: Path) -> IO[bytes]:
    """Returns a temporary zip of all files in a folder but hidden ones; equal files give equal bytes."""
    names = sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not names:
        message = f"The folder {folder} holds no files."
        raise ServiceError("invalid_dataset", message, fields={"file": message})
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile(prefix="betavae-"))
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name in names:
                # A fixed time keeps the zip of unchanged files the same, so that the service stores it once.
                archive.writestr(zipfile.ZipInfo(name.as_posix(), (1980, 1, 1, 0, 0, 0)), (folder / name).read_bytes())
        file.seek(0)
        stack.pop_all()
    return file


def name_of(source: Path) -> str:
    """Returns the name of a folder or file without the characters that a data set's name may not have."""
    return re.sub(r"[^A-Za-z0-9 ._()-]+", "-", source.resolve().stem).lstrip(" ._()-")[:100].strip() or "pictures"


def form_text(value: object) -> str:
    """Returns an option of a traversal as the text of a form: lists with commas, None as the empty text."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Sequence) or hasattr(value, "tolist"):
        return ",".join(str(one) for one in (value if isinstance(value, Sequence) else value.tolist()))
    return str(value)


def form_json(value: object) -> str:
    """Returns an option of a training as the text of a form: texts as they are, all others as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
