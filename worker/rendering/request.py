"""What a traversal request can ask: one definition for the HTTP form, the command line and the renderer; no torch.

A request goes through three doors: `parse_request` (texts of a form → typed fields, each within its own limits),
`resolve_request` (against one model: which dimensions, is the latent vector long enough, is the whole affordable),
`traversal_id` (the name of the resource that it asks for). Each raises ConfigError, which names the field.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator, model_validator

from models.config import Config, ConfigError, unit, unknown_setting, value_type
from models.info import ModelInfo, active_dimensions

RENDERER_VERSION = 3
"""Part of every traversal's id: raise it when the same request would give other bytes."""

MAX_STEPS = 240
MAX_DECODED_PIXELS = 2**26
"""Dimensions × steps × size²: the decoder's frames, which a render worker holds all at once (192 MiB in colour)."""
MAX_RENDERED_PIXELS = 2**27
"""Dimensions × steps × (scale × size)²: what is encoded, frame by frame; bounds the time of a request."""
MAX_TILE_PX = 1024
AUTO_TILE_PX, AUTO_PIXELS = 128, 8_000_000
"""What an automatic scale aims at, and the most pixels (as MAX_RENDERED_PIXELS counts) that it makes."""
MAX_SHEET_PIXELS = 2**24
"""Pixels in one frame of the sheet of all dimensions."""

FORMATS = {
    "json": "application/json",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "png": "image/png",
    "zip": "application/zip",
}
"""Answer formats and their media types; gif, webp and mp4 are the animated sheet, png the static one."""

Pixels = NDArray[np.uint8]


class TraversalRequest(Config):
    """The parameters of a traversal, without the pictures that it starts from.

    Exactly one start is needed: an image, `z` or `seed`. With a second image the request is an interpolation
    between the two posterior means, and the fields that name dimensions and ranges do nothing.
    """

    z: tuple[float, ...] | None = Field(
        None,
        description="Latent vector to start from instead of an image: D numbers, as JSON or separated by commas.",
    )
    seed: int | None = Field(
        None, description="Start from a draw from the prior N(0, I) instead of an image.", ge=0, le=2**63 - 1
    )
    dimensions: str = Field(
        "all",
        description="Dimensions to traverse: all, active (KL above a threshold), or indices from 0 such as 0,3,7-9.",
    )
    order: Literal["auto", "index", "kl"] = Field(
        "auto",
        description="Order of the dimensions: by index, or by KL, largest first; auto: by KL in the static sheet "
        "alone.",
    )
    range: Literal["prior", "posterior", "quantiles", "image"] = Field(
        "prior",
        description=(
            "What start and end count in. prior: σ of N(0, I), so they are the latent's values; posterior: σ of the "
            "aggregate posterior (of the posterior means over the data set), around its mean; quantiles: the same "
            "ends, with steps of equal probability under the aggregate posterior; image: σ of this image's own "
            "posterior, around its mean."
        ),
    )
    start: float = Field(
        -3.0, description="First value of a traversed dimension.", ge=-100, le=100, json_schema_extra=unit("σ")
    )
    end: float = Field(
        3.0,
        description="Last value of a traversed dimension; included.",
        ge=-100,
        le=100,
        json_schema_extra=unit("σ"),
    )
    steps: int = Field(31, description="Frames from start to end, both included.", ge=2, le=MAX_STEPS)
    columns: int = Field(11, description="Frames a row in the static sheet, both ends included.", ge=2, le=60)
    grid: str | None = Field(
        None,
        description="Two dimensions i,j for a grid: i moves across, j moves down. Takes the place of dimensions.",
    )
    interpolation: Literal["linear", "slerp"] = Field(
        "linear",
        description="Path between two images: linear, or slerp (along the arc, which keeps the distance to the "
        "origin).",
    )
    fps: float = Field(15.0, description="Frames a second.", ge=1, le=50, json_schema_extra=unit("1/s"))
    loop: Literal["forward", "pingpong"] = Field(
        "forward", description="forward: start again after the end; pingpong: go back the same way."
    )
    scale: int = Field(
        0,
        description="Enlargement of every frame, a whole factor; 0: to about 128 px while the whole stays quick to "
        "make.",
        ge=0,
        le=16,
    )
    resample: Literal["nearest", "bicubic", "lanczos"] = Field("bicubic", description="Filter of the enlargement.")
    captions: Literal["auto", "on", "off"] = Field(
        "auto",
        description=(
            "Dimension, KL in nats, label and current value beside the pictures, original and reconstruction at their "
            "left. auto: on the sheets, not on the animations of one dimension; on; off."
        ),
    )
    format: Literal["json", "gif", "webp", "mp4", "png", "zip"] | None = Field(
        None, description="What comes back, instead of the Accept header. No part of the traversal's id."
    )

    @field_validator("z", mode="before")
    @classmethod
    def _read_z(cls, value: Any) -> tuple[float, ...] | None:
        return None if value is None else _parse_z(value)

    @field_validator("seed", "steps", "columns", "scale", "start", "end", "fps", mode="before")
    @classmethod
    def _bounded(cls, value: Any, info: ValidationInfo) -> Any:
        if type(value) is int and abs(value) >= 2**63:
            raise ConfigError(str(info.field_name), "is out of range")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.z is not None and self.seed is not None:
            raise ConfigError("seed", "cannot stand beside z: give one start")
        if self.dimensions not in ("all", "active"):
            parse_indices("dimensions", self.dimensions)
        if self.grid is not None:
            pair = parse_indices("grid", self.grid)
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ConfigError("grid", f"must be two different dimensions such as 0,3, not {self.grid!r}")
        return self

    @property
    def grid_dimensions(self) -> tuple[int, int] | None:
        """(across, down) of the grid, where one is asked for."""
        if self.grid is None:
            return None
        across, down = parse_indices("grid", self.grid)
        return across, down

    def to_json(self) -> dict[str, Any]:
        """Returns all fields by name; `from_json` reads them back."""
        return {**dict(self), "z": None if self.z is None else list(self.z)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TraversalRequest":
        """Returns the request of typed values by field name.

        Raises:
            ConfigError: A field is unknown or has a wrong value.
        """
        _check_names(data)
        return cls(**data)


def _check_names(given: Iterable[str]) -> None:
    for name in given:
        if name not in TraversalRequest.model_fields:
            raise unknown_setting(name, TraversalRequest.model_fields, "is no parameter of a traversal")


def parse_request(form: Mapping[str, Any]) -> TraversalRequest:
    """A request from the texts of an HTML form or a command line.

    Args: form, field name → text (typed values pass too); None and empty texts mean the default.
    Raises: ConfigError for an unknown field or a value that cannot be read or is outside its limits.
    """
    values: dict[str, Any] = {}
    _check_names(form)
    for name, value in form.items():
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        values[name] = _parse_text(name, value.strip()) if isinstance(value, str) else value
    return TraversalRequest.from_json(values)


def _parse_text(name: str, text: str) -> Any:
    if len(text) > 20_000:
        raise ConfigError(name, "is too long")
    if name == "z":
        return _parse_z(text)
    if name == "captions":
        return {"true": "on", "1": "on", "yes": "on", "false": "off", "0": "off", "no": "off"}.get(text.lower(), text)
    kind = value_type(TraversalRequest.model_fields[name])
    try:
        return kind(text)
    except ValueError:
        whole = "whole " if kind is int else ""
        raise ConfigError(name, f"must be a {whole}number, not {text[:40]!r}") from None


def _parse_z(value: Any) -> tuple[float, ...]:
    """D numbers from a list, a JSON text or numbers separated by commas."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
            value = [float(number) for number in value]
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise ConfigError("z", "must be a list of numbers such as [0.5, -1, 0]") from None
    if not isinstance(value, Sequence) or not value:
        raise ConfigError("z", "must be a list of numbers such as [0.5, -1, 0]")
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in value):
        raise ConfigError("z", "must hold numbers only")
    if not all(abs(number) <= 1000 for number in value):
        raise ConfigError("z", "every number must be finite and between -1000 and 1000")
    return tuple(float(number) for number in value)


def parse_indices(field: str, text: str) -> list[int]:
    """Dimension indices from a text such as "0,3,7-9", in the order written. Raises ConfigError naming `field`."""
    indices: list[int] = []
    for part in text.strip("[]() ").split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isascii() or not first.isdigit() or (dash and not (last.isascii() and last.isdigit())):
            what = "all, active, or indices" if field == "dimensions" else "indices"
            raise ConfigError(field, f"must be {what} such as 0,3,7-9, not {text[:40]!r}")
        if len(first) > 4 or len(last) > 4:
            raise ConfigError(field, "holds an index that no model has")
        indices += range(int(first), int(last or first) + 1)
        if len(indices) > 10_000:
            raise ConfigError(field, "names too many dimensions")
    if not indices:
        raise ConfigError(field, "names no dimension")
    if len(set(indices)) != len(indices):
        raise ConfigError(field, "names a dimension twice")
    return indices


def resolve_request(request: TraversalRequest, info: ModelInfo, num_images: int) -> TraversalRequest:
    """The request with dimensions and scale written out, sure that this model can answer it at a bounded cost.

    Args: num_images, pictures that come with it: 0 (then z or seed), 1, or 2 (an interpolation).
    Raises: ConfigError naming the field that cannot be.
    """
    latent_dim = info.network.latent_dim
    has_latent = request.z is not None or request.seed is not None
    if num_images == 0 and not has_latent:
        raise ConfigError("image", "is missing: give an image, or a latent vector z, or a seed")
    if num_images and has_latent:
        raise ConfigError("z" if request.z is not None else "seed", "cannot stand beside an image: give one start")
    if request.z is not None and len(request.z) != latent_dim:
        raise ConfigError("z", f"must hold {latent_dim} numbers for this model, not {len(request.z)}")
    if num_images == 2 and request.grid is not None:
        raise ConfigError("grid", "cannot stand beside a second image")
    if num_images != 2:
        request = request.replace(dimensions=_resolve_dimensions(request, info))
        _check_range(request, info, num_images)
    if request.scale == 0:
        request = request.replace(scale=_automatic_scale(request, info, num_images))
    _check_cost(request, info, num_images)
    return request


def _resolve_dimensions(request: TraversalRequest, info: ModelInfo) -> str:
    """Indices as text, ascending. `active` stays as it is for a model without KLs: the image's own decide then."""
    latent_dim = info.network.latent_dim
    if request.grid_dimensions:
        if max(request.grid_dimensions) >= latent_dim:
            raise ConfigError("grid", f"this model has dimensions 0 to {latent_dim - 1}")
        chosen = sorted(request.grid_dimensions)
    elif request.dimensions == "all":
        chosen = list(range(latent_dim))
    elif request.dimensions == "active":
        if not info.kl_per_dimension:
            return request.dimensions
        chosen = active_dimensions(info.kl_per_dimension)
        if not chosen:
            raise ConfigError("dimensions", "this model has no active dimension")
    else:
        chosen = sorted(parse_indices("dimensions", request.dimensions))
        if chosen[-1] >= latent_dim:
            raise ConfigError("dimensions", f"this model has dimensions 0 to {latent_dim - 1}, not {chosen[-1]}")
    return ",".join(map(str, chosen))


def _check_range(request: TraversalRequest, info: ModelInfo, num_images: int) -> None:
    if request.range == "image" and num_images == 0:
        raise ConfigError("range", "image needs an image, whose posterior gives the σ")
    if request.range in ("posterior", "quantiles") and not (info.aggregate_mean and info.aggregate_std):
        raise ConfigError("range", f"{request.range} needs the aggregate posterior, which this model does not record")


def num_strips(request: TraversalRequest, info: ModelInfo, num_images: int) -> int:
    """Rows of frames that the renderer decodes, at most: dimensions, a grid's rows beside its two, or one path."""
    if num_images == 2:
        return 1
    if request.grid is not None:
        return 2 + min(request.columns, request.steps)
    if request.dimensions in ("all", "active"):
        return info.network.latent_dim
    return len(parse_indices("dimensions", request.dimensions))


def _automatic_scale(request: TraversalRequest, info: ModelInfo, num_images: int) -> int:
    pixels = num_strips(request, info, num_images) * request.steps * info.network.image_size**2
    for scale in (4, 3, 2):
        if scale * info.network.image_size <= AUTO_TILE_PX and scale**2 * pixels <= AUTO_PIXELS:
            return scale
    return 1


def _check_cost(request: TraversalRequest, info: ModelInfo, num_images: int) -> None:
    """Refuses what would cost unbounded memory or time, before anything is decoded."""
    size = info.network.image_size
    tile = size * request.scale
    strips = num_strips(request, info, num_images)
    frames = strips * request.steps
    if tile > MAX_TILE_PX:
        raise ConfigError("scale", f"{request.scale} makes frames of {tile} px; at most {MAX_TILE_PX}")
    if frames * size**2 > MAX_DECODED_PIXELS:
        most = MAX_DECODED_PIXELS // (size**2 * strips)
        raise ConfigError("steps", f"at most {most} for {strips} dimensions of {size} px")
    if frames * tile**2 > MAX_RENDERED_PIXELS:
        raise ConfigError(
            "scale",
            f"{frames} frames of {tile} px are {frames * tile**2 / 1e6:.0f} million pixels; at most "
            f"{MAX_RENDERED_PIXELS // 10**6}: ask for fewer dimensions or steps, or a smaller scale",
        )
    sheet_rows = strips + 2
    if max(strips * tile**2, sheet_rows * min(request.columns, request.steps) * tile**2) > MAX_SHEET_PIXELS:
        raise ConfigError(
            "scale",
            f"a sheet with rows at {tile} px, {strips} of them, is too large; ask for a smaller scale or fewer columns",
        )


def traversal_id(request: TraversalRequest, info: ModelInfo, images: Sequence[Pixels]) -> str:
    """Name of the resource that a resolved request asks for: 32 hex digits.

    A hash of the model (its weights, and what of its card the pictures show or depend on), the decoded pixels, the
    parameters and the renderer's version. Equal ids mean equal bytes; `format` is left out, since one traversal
    holds all formats.

    Args: images, the decoded and preprocessed pictures, each uint8 (H, W, C).
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
        "parameters": parameters,
        "images": [list(image.shape) for image in images],
    }
    digest.update(json.dumps(described, sort_keys=True, separators=(",", ":")).encode())
    for image in images:
        digest.update(np.ascontiguousarray(image, dtype=np.uint8).tobytes())
    return digest.hexdigest()[:32]


EXTRA_FILES = {"webp": "sheet.webp", "mp4": "sheet.mp4"}
"""Files that are made only where their format is asked for; all others every traversal has."""


def needed_files(format: str | None) -> list[str]:
    """Files beside result.json that a traversal must have before it can be given in a format."""
    return [EXTRA_FILES[format]] if format in EXTRA_FILES else []


def dimension_file(index: int) -> str:
    """File name of one dimension's animation. Files count from 1, indices from 0: index 0 is z_01.gif."""
    return f"z_{index + 1:02d}.gif"


def zipped_names(names: Iterable[str]) -> list[str]:
    """Which of a traversal's files its zip holds: the animations of single dimensions; without any, the sheet."""
    animations = [name for name in names if name.startswith("z_") and name.endswith(".gif")]
    return sorted(animations) or ["sheet.gif"]


def job_request(identity: str, model: str, request: TraversalRequest, num_images: int) -> dict[str, Any]:
    """What a traversal job carries: ids and parameters; the pictures wait in storage (`input_keys`)."""
    return {"traversal": identity, "model": model, "request": request.to_json(), "num_images": num_images}


def input_keys(identity: str, num_images: int) -> list[str]:
    """Storage keys of the preprocessed input pictures, PNG; whoever makes the job writes them first."""
    return [f"traversals/{identity}/{name}" for name in ("input.png", "input2.png")[:num_images]]
