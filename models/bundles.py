"""Reads and writes bundles, which are zips of model.safetensors and model.json, under hard limits; free of torch."""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, get_args

from models import strict_json
from models.archives import Archive, ArchiveError, open_archive
from models.description_limits import check_limits
from models.info import INFO_FILE, WEIGHTS_FILE, Likelihood, ModelInfo

MAX_WEIGHTS_BYTES = 32 * 1024**2
"""Largest accepted weights. The largest network that a NetworkConfig allows has 5 MB, 22 MB with categorical latents;
a checkpoint adds its optimizer's state."""
MAX_INFO_BYTES = 4 * 1024**2
"""Largest accepted description, which has room for 256 dimensions with a heat map each."""
MAX_BUNDLE_BYTES = MAX_WEIGHTS_BYTES + MAX_INFO_BYTES + 1024**2
_MAX_ENTRIES = 16
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of every file in a bundle. It is fixed, so that the same model gives the same bytes."""


class ImportRefused(ValueError):
    """A file is refused as a model. `code` is stable, `message` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def read_bundle(data: bytes) -> tuple[bytes, ModelInfo]:
    """Returns the weights and the description in a bundle.

    Other files (README.md) and folders in front of the two names are ignored. Nothing is unpacked to disk.

    Args:
        data: The bytes of the zip.

    Returns:
        The safetensors bytes, not yet checked against the architecture, and the description.

    Raises:
        ImportRefused: The code is too_large, not_a_bundle or invalid_description.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise ImportRefused("too_large", f"the bundle has {len(data)} bytes, the limit is {MAX_BUNDLE_BYTES}")
    try:
        with open_archive(io.BytesIO(data), max_entries=_MAX_ENTRIES) as archive:
            weights = _read_entry(archive, WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
            description = _read_entry(archive, INFO_FILE, MAX_INFO_BYTES)
    # zipfile and its decompressors raise many kinds of errors on hostile bytes; all of them mean the same.
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        if isinstance(error, ImportRefused):
            raise
        raise ImportRefused("not_a_bundle", f"the zip cannot be read: {error}") from error
    except Exception as error:
        raise ImportRefused("not_a_bundle", f"the zip is damaged: {type(error).__name__}") from error
    return weights, read_description(description)


def read_description(data: bytes) -> ModelInfo:
    """Returns the description in the bytes of a model.json.

    Raises:
        ImportRefused: The code is too_large or invalid_description.
    """
    value = read_json_object(data, INFO_FILE, MAX_INFO_BYTES)
    try:
        info = ModelInfo.from_json(value)
        _check_types(info)
        check_limits(info)
    except (ValueError, TypeError, AttributeError) as error:
        raise ImportRefused("invalid_description", f"{INFO_FILE}: {error}") from error
    return info


def read_json_object(data: bytes, name: str, max_bytes: int) -> dict[str, Any]:
    """Parses a JSON object of finite numbers from bytes under a limit.

    Args:
        data: The JSON text.
        name: The file's name for messages.
        max_bytes: Largest number of bytes that is accepted.

    Raises:
        ImportRefused: The code is too_large or invalid_description.
    """
    if len(data) > max_bytes:
        raise ImportRefused("too_large", f"{name} has {len(data)} bytes, the limit is {max_bytes}")
    try:
        value = strict_json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImportRefused("invalid_description", f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ImportRefused("invalid_description", f"{name} does not hold a JSON object")
    return value


def write_bundle(folder: Path, target: Path | IO[bytes], *, card: str = "") -> None:
    """Packs a model's folder; the same model gives the same bytes.

    Args:
        folder: The model's folder.
        target: A path or an open binary file.
        card: The model card, which is added as README.md unless it is empty.
    """
    files = {INFO_FILE: (folder / INFO_FILE).read_bytes(), WEIGHTS_FILE: (folder / WEIGHTS_FILE).read_bytes()}
    write_zip({**files, "README.md": card.encode()} if card else files, target)


def write_zip(files: Mapping[str, bytes], target: Path | IO[bytes]) -> None:
    """Writes files into an uncompressed zip, since weights and animations do not shrink; equal files give equal bytes.

    Args:
        files: Contents by file name.
        target: A path or an open binary file.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)


def _read_entry(archive: Archive, name: str, max_bytes: int) -> bytes:
    """Returns the only file of that name; the limit applies to its true length, not to the length that the zip states.

    Raises:
        ImportRefused: The code is not_a_bundle or too_large.
    """
    found = [entry for entry in archive.entries if entry.filename.rsplit("/", 1)[-1] == name]
    if len(found) != 1:
        raise ImportRefused("not_a_bundle", f"the zip contains {len(found)} files named {name}, not one")
    try:
        return archive.read(found[0], max_bytes)
    except ArchiveError as error:
        code = "too_large" if error.code == "member_too_large" else "not_a_bundle"
        raise ImportRefused(code, error.message) from error


def _check_types(info: ModelInfo) -> None:
    """Checks the types of values, which untrusted files may get wrong; from_json checks only names and lengths.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is not allowed, or two values contradict each other.
    """
    for names, is_valid, kind in _TYPES:
        for name in names:
            if not is_valid(getattr(info, name)):
                raise TypeError(f"{name}: must be {kind}")
    if info.likelihood not in get_args(Likelihood):
        raise ValueError(f"likelihood: must be bernoulli, gaussian or gaussian_optimal, not {info.likelihood[:40]!r}")
    for name in ("image_size", "num_channels"):
        if getattr(info.preprocessing, name) != getattr(info.network, name):
            raise ValueError(f"preprocessing and network do not have the same {name}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _is_list_of(is_valid: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(is_valid, value))


_TYPES: tuple[tuple[tuple[str, ...], Callable[[object], bool], str], ...] = (
    (
        ("name", "likelihood", "licence", "source", "created_at", "weights_sha256"),
        lambda value: isinstance(value, str),
        "a text",
    ),
    (("dataset", "training", "metrics"), lambda value: isinstance(value, dict), "an object"),
    (
        ("kl_per_dimension", "aggregate_mean", "aggregate_std", "typical_mean"),
        _is_list_of(_is_number),
        "a list of numbers",
    ),
    (
        ("familiarity",),
        lambda value: isinstance(value, dict) and len(value) <= 10 and all(map(_is_number, value.values())),
        "an object of numbers",
    ),
    (("dimension_labels",), _is_list_of(lambda value: isinstance(value, str)), "a list of texts"),
    (("dimension_effects",), _is_list_of(lambda value: isinstance(value, dict)), "a list of objects"),
    (
        ("reconstruction_loss", "explained_variance", "steered_beta", "bernoulli_floor"),
        lambda value: value is None or _is_number(value),
        "a number",
    ),
    (("step",), lambda value: type(value) is int and value >= 0, "a whole number"),
)
"""Names of fields, whether a value is of their type, and the type in words."""
