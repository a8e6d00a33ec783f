"""A traversal's id, its files by name, the parts in which they are made, and the request of its job; no torch."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from models.info import ModelInfo
from worker.rendering.request import Pixels, TraversalRequest

RENDERER_VERSION = 5
"""Part of every traversal's id. It is raised when the same request gives other bytes."""

EXTRA_FILES = {"webp": "sheet.webp", "mp4": "sheet.mp4"}
"""Files that a traversal has only if a request named their format."""
ANIMATIONS, ENDS = "animations", "ends"
"""Parts of a traversal that are made together: the animations of single dimensions, and the pictures of their ends.
Every other file is a part by itself, called as the file."""
STILL = "reconstruction.png"


def parts_of_format(format: str | None, *, is_path: bool) -> list[str]:
    """Returns the parts that are made at once for a format; the others are made when they are first asked for.

    Args:
        format: A key of FORMATS; None stands for json.
        is_path: Whether the request is an interpolation, which has no animations of dimensions.
    """
    if format not in (None, "json", "zip"):
        return [f"sheet.{format}"]
    moving = "sheet.gif" if is_path else ANIMATIONS
    return [moving] if format == "zip" else [moving, STILL]


def part_of_file(name: str) -> str:
    """Returns the part that a file of a traversal belongs to."""
    if not name.startswith("z_"):
        return name
    return ANIMATIONS if name.endswith(".gif") else ENDS


def files_of_parts(result: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the files of each part that every traversal has, whether they were made or not.

    Args:
        result: The content of its result.json.
    """
    parts = {name: [name] for name in ("sheet.gif", "sheet.png", STILL)}
    parts[ANIMATIONS] = [one["file"] for one in result["dimensions"]]
    parts[ENDS] = [name for one in result["dimensions"] for name in one.get("end_files", ())]
    return parts


def dimension_file(index: int) -> str:
    """Returns the file name of a dimension's animation; names count from 1, so index 0 is z_01.gif."""
    return f"z_{index + 1:02d}.gif"


def end_files(index: int) -> tuple[str, str]:
    """Returns the file names of the first and the last picture of a dimension."""
    return f"z_{index + 1:02d}_first.png", f"z_{index + 1:02d}_last.png"


def zipped_names(names: Iterable[str]) -> list[str]:
    """Returns the names of the files in a traversal's zip: the animations of single dimensions, or else the sheet."""
    animations = [name for name in names if name.startswith("z_") and name.endswith(".gif")]
    return sorted(animations) or ["sheet.gif"]


def job_request(
    identity: str, model: str, request: TraversalRequest, num_images: int, parts: Sequence[str] | None = None
) -> dict[str, Any]:
    """Returns the request of a traversal job, whose pictures are in the storage (`input_keys`).

    Args:
        identity: Id of the traversal.
        model: Id of the model.
        request: The resolved request.
        num_images: Number of pictures.
        parts: The parts to make; None makes all of them.
    """
    job = {"traversal": identity, "model": model, "request": request.to_json(), "num_images": num_images}
    return job if parts is None else {**job, "parts": list(parts)}


def input_keys(identity: str, num_images: int) -> list[str]:
    """Returns the storage keys of the preprocessed pictures as PNG, which are written before the job is made."""
    return [f"traversals/{identity}/{name}" for name in ("input.png", "input2.png")[:num_images]]


def traversal_id(request: TraversalRequest, info: ModelInfo, images: Sequence[Pixels]) -> str:
    """Returns the id of the traversal of a resolved request, 32 hex digits.

    The id is a hash of the model (its weights, and the parts of its description that decide or appear in the pictures),
    the decoded pixels, the parameters and the renderer's version. Equal ids mean equal bytes. The field `format` is
    left out, since one traversal has all formats.

    Args:
        request: The resolved request.
        info: The model's description.
        images: The decoded and preprocessed pictures, each uint8 (H, W, C).
    """
    parameters = request.to_json()
    del parameters["format"]
    digest = hashlib.sha256()
    described = {
        "renderer": RENDERER_VERSION,
        "weights": info.weights_sha256,
        "network": info.network.model_dump(),
        "kl_per_dimension": info.kl_per_dimension,
        "aggregate": [info.aggregate_mean, info.aggregate_std],
        "dimension_labels": info.dimension_labels,
        "visible": [info.is_visible(k) for k in range(info.network.latent_dim)],
        "familiarity": info.familiarity,
        "parameters": parameters,
        "images": [list(image.shape) for image in images],
    }
    digest.update(json.dumps(described, sort_keys=True, separators=(",", ":")).encode())
    for image in images:
        digest.update(np.ascontiguousarray(image, dtype=np.uint8).tobytes())
    return digest.hexdigest()[:32]
