"""Uploads, read under a limit and made into one thing for each key; and pictures to PNG, animations to zip."""

import hashlib
import io
import json
import threading

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.datastructures import UploadFile

from app.problems import Problem
from worker.jobs.records import IdempotencyConflict
from worker.rendering.encoders import zip_files
from worker.rendering.parts import zipped_names
from worker.stores.settings import PREFIX
from worker.stores.storage import NotStored, Storage

KEY_FILE = "idempotency.json"


class KeyLocks:
    """Locks by key: work on one key is done by one thread at a time."""

    def __init__(self, num: int = 16) -> None:
        """Makes the locks.

        Args:
            num: Number of locks; keys share them, so that there need not be one for every key there ever was.
        """
        self._locks = [threading.Lock() for _ in range(num)]

    def __getitem__(self, key: str) -> threading.Lock:
        """Returns the lock of a key."""
        return self._locks[hash(key) % len(self._locks)]


def read_upload(upload: UploadFile, max_bytes: int, setting: str = "") -> bytes:
    """Returns the bytes of an uploaded file.

    Args:
        upload: The file.
        max_bytes: Largest size, in bytes.
        setting: Name of the setting that the limit comes from, for the error's text.

    Raises:
        Problem: The file is larger (upload_too_large).
    """
    data = upload.file.read(max_bytes + 1)
    if len(data) > max_bytes:
        source = f" ({PREFIX}{setting.upper()})" if setting else ""
        raise Problem("upload_too_large", f"The file is larger than the {max_bytes} bytes that are taken{source}.")
    return data


def id_of_upload(storage: Storage, place: str, idempotency_key: str, digest: str) -> str:
    """Returns the id of the one thing that an upload with an Idempotency-Key makes, whatever crashes meanwhile.

    The thing's folder has a file with the digest of the upload, and goes with the thing.

    Args:
        storage: The storage.
        place: The prefix of all such things.
        idempotency_key: The key.
        digest: A digest of all that the request says.

    Raises:
        IdempotencyConflict: The key came with another upload before.
    """
    # No name makes an id with an underscore, so that nobody can take the place of another's upload.
    one_id = f"upload_{hashlib.sha256(idempotency_key.encode()).hexdigest()[:16]}"
    file = f"{place}/{one_id}/{KEY_FILE}"
    if storage.create_bytes(file, json.dumps({"digest": digest}).encode()):
        return one_id
    try:
        is_same = storage.read_json(file) == {"digest": digest}
    except (NotStored, ValueError):  # It is being deleted, or was not written whole.
        is_same = False
    if not is_same:
        raise IdempotencyConflict("The Idempotency-Key was sent with a different request before.")
    return one_id


def image_dimension_zip(storage: Storage, prefix: str) -> bytes:
    """Returns a zip of a traversal's animations of single dimensions, `z_01.gif` and so on."""
    return zip_files({name: storage.read_bytes(f"{prefix}/{name}") for name in zipped_names(storage.list(prefix))})


def to_png(images: NDArray[np.float32]) -> bytes:
    """Returns one PNG of several pictures, side by side in rows that make it about square.

    Args:
        images: Pixels in [0, 1], (N, H, W, C).
    """
    return bytes_to_png(np.rint(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8))


def bytes_to_png(pixels: NDArray[np.uint8], columns: int | None = None) -> bytes:
    """Returns one PNG of several pictures in rows.

    Args:
        pixels: The pictures, (N, H, W, C).
        columns: Pictures in a row; None makes the PNG about square.
    """
    num, height, width, channels = pixels.shape
    columns = min(num, columns) if columns else int(np.ceil(np.sqrt(num)))
    rows = -(-num // columns)
    tiles = np.zeros((rows * columns, height, width, channels), np.uint8)
    tiles[:num] = pixels
    sheet = tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    buffer = io.BytesIO()
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(buffer, "PNG")
    return buffer.getvalue()
