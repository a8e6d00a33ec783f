"""Traversal requests: one definition for the HTTP form, the command line and the renderer; no torch.

A request goes through two functions. `parse_request` turns the texts of a form into typed fields within their limits.
`resolve_request` checks it against a model, writes out its dimensions and scale, and bounds its cost. Both raise
ConfigError, which names the field.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator, model_validator

from models.config import Config, ConfigError, unit, unknown_setting, value_type
from models.info import ModelInfo

MAX_STEPS = 240
MAX_DECODED_PIXELS = 2**26
"""Largest dimensions × steps × size². A render worker holds all decoded frames at once, 192 MiB in colour."""
MAX_RENDERED_PIXELS = 2**27
"""Largest dimensions × steps × (scale × size)², the pixels that are encoded; it bounds the time of a request."""
MAX_TILE_PX = 1024
AUTO_TILE_PX, AUTO_PIXELS = 128, 2**24
"""Size of a frame that an automatic scale aims at, and the most pixels that it makes, as MAX_RENDERED_PIXELS counts."""
MAX_SHEET_PIXELS = 2**24
"""Largest number of pixels in one frame of the sheet of all dimensions."""

FORMATS = {
    "json": "application/json",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "png": "image/png",
    "zip": "application/zip",
}
"""Media types of the answer formats; gif, webp and mp4 are the animated sheet, and png is the static one."""

Pixels = NDArray[np.uint8]


class TraversalRequest(Config):
    """The parameters of a traversal, without the pictures that it starts from.

    A traversal needs exactly one start: an image, `z` or `seed`. With a second image or `z2`, the request is an
    interpolation between the two posterior means or latent vectors, and the fields for dimensions and ranges have no
    effect.
    """

    z: tuple[float, ...] | None = Field(
        None,
        description="Latent vector to start from instead of an image: D numbers, as JSON or separated by commas.",
    )
    z2: tuple[float, ...] | None = Field(
        None, description="A second latent vector beside z: the traversal is then the path between the two."
    )
    seed: int | None = Field(
        None, description="Start from a draw from the prior, N(0, I), instead of an image.", ge=0, le=2**63 - 1
    )
    dimensions: str = Field(
        "all",
        description="Dimensions to traverse: all, active (they carry information, and an eye can see it), or indices "
        "from 0 such as 0,3,7-9.",
    )
    order: Literal["auto", "index", "kl"] = Field(
        "auto",
        description="Order of the dimensions: by index, or by KL, the largest first; auto sorts only the static sheet "
        "by KL.",
    )
    range: Literal["prior", "posterior", "quantiles", "image"] = Field(
        "prior",
        description=(
            "Unit of start and end. prior: σ of N(0, I), so that they are the latent's values; −3 to 3 is the whole "
            "grid, from −1 to 1, of a categorical latent. posterior: σ of the "
            "aggregate posterior (of the posterior means over the data set), around its mean. quantiles: the same "
            "ends, with steps of equal probability under the aggregate posterior. image: σ of this image's own "
            "posterior, around its mean."
        ),
    )
    start: float = Field(
        -3.0, description="First value of a traversed dimension.", ge=-100, le=100, json_schema_extra=unit("σ")
    )
    end: float = Field(
        3.0,
        description="Last value of a traversed dimension, which is included.",
        ge=-100,
        le=100,
        json_schema_extra=unit("σ"),
    )
    steps: int = Field(31, description="Number of frames from start to end, both included.", ge=2, le=MAX_STEPS)
    columns: int = Field(11, description="Number of frames in a row of the static sheet, with both ends.", ge=2, le=60)
    grid: str | None = Field(
        None,
        description="Two dimensions i,j for a grid, which replaces dimensions: i moves across, and j moves down.",
    )
    interpolation: Literal["linear", "slerp"] = Field(
        "linear",
        description="Path between two images or two latent vectors: linear, or slerp, along the arc, which keeps the "
        "distance to the origin.",
    )
    fps: float = Field(15.0, description="Frame rate.", ge=1, le=50, json_schema_extra=unit("1/s"))
    loop: Literal["forward", "pingpong"] = Field(
        "forward", description="forward starts again after the end; pingpong goes back the same way."
    )
    scale: int = Field(
        0,
        description="Whole factor by which every frame is enlarged; 0 enlarges to about 128 px as long as the "
        "traversal stays quick to make.",
        ge=0,
        le=16,
    )
    resample: Literal["nearest", "bicubic", "lanczos"] = Field("bicubic", description="Filter of the enlargement.")
    captions: Literal["auto", "on", "off"] = Field(
        "auto",
        description=(
            "Whether pictures show their dimension, KL in nats, label and current value, with the original and the "
            "reconstruction at the left. auto: on the sheets, but not on the animations of one dimension."
        ),
    )
    format: Literal["json", "gif", "webp", "mp4", "png", "zip"] | None = Field(
        None,
        description="Format of the answer, which takes precedence over the Accept header. It does not change the "
        "traversal's id.",
    )

    @field_validator("z", "z2", mode="before")
    @classmethod
    def _read_z(cls, value: Any, info: ValidationInfo) -> tuple[float, ...] | None:
        return None if value is None else _parse_z(str(info.field_name), value)

    @field_validator("seed", "steps", "columns", "scale", "start", "end", "fps", mode="before")
    @classmethod
    def _bounded(cls, value: Any, info: ValidationInfo) -> Any:
        if type(value) is int and abs(value) >= 2**63:
            raise ConfigError(str(info.field_name), "is out of range")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.z is not None and self.seed is not None:
            raise ConfigError("seed", "cannot be combined with z: give one start")
        if self.z2 is not None and self.z is None:
            raise ConfigError("z2", "needs z, the latent vector where the path begins")
        if self.dimensions not in ("all", "active"):
            parse_indices("dimensions", self.dimensions)
        if self.grid is not None:
            pair = parse_indices("grid", self.grid)
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ConfigError("grid", f"must be two different dimensions such as 0,3, not {self.grid!r}")
        return self

    @property
    def grid_dimensions(self) -> tuple[int, int] | None:
        """The dimensions (across, down) of the grid; None without a grid."""
        if self.grid is None:
            return None
        across, down = parse_indices("grid", self.grid)
        return across, down

    def is_path(self, num_images: int) -> bool:
        """Returns whether the traversal is the path between two images or latent vectors.

        Args:
            num_images: Number of pictures that come with the request.
        """
        return num_images == 2 or self.z2 is not None

    def to_json(self) -> dict[str, Any]:
        """Returns all fields by name, z2 only where it is given; `from_json` reads them back."""
        values = {**dict(self), "z": None if self.z is None else list(self.z)}
        # Without it, requests keep the ids and the stored files that they had before there was this field.
        end = values.pop("z2")
        return values if end is None else {**values, "z2": list(end)}

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
            raise unknown_setting(name, TraversalRequest.model_fields, "is not a parameter of a traversal")


def parse_request(form: Mapping[str, Any]) -> TraversalRequest:
    """Returns the request of an HTML form or a command line.

    Args:
        form: Texts or typed values by field name; None and empty texts mean the default.

    Raises:
        ConfigError: A field is unknown, or its value cannot be read or is outside its limits.
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
    if name in ("z", "z2"):
        return _parse_z(name, text)
    if name == "captions":
        return {"true": "on", "1": "on", "yes": "on", "false": "off", "0": "off", "no": "off"}.get(text.lower(), text)
    kind = value_type(TraversalRequest.model_fields[name])
    try:
        return kind(text)
    except ValueError:
        whole = "whole " if kind is int else ""
        raise ConfigError(name, f"must be a {whole}number, not {text[:40]!r}") from None


def _parse_z(field: str, value: Any) -> tuple[float, ...]:
    """Returns the D numbers of a list, a JSON text, or a text of numbers separated by commas."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
            value = [float(number) for number in value]
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise ConfigError(field, "must be a list of numbers such as [0.5, -1, 0]") from None
    if not isinstance(value, Sequence) or not value:
        raise ConfigError(field, "must be a list of numbers such as [0.5, -1, 0]")
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in value):
        raise ConfigError(field, "must hold numbers only")
    if not all(abs(number) <= 1000 for number in value):
        raise ConfigError(field, "every number must be finite and between -1000 and 1000")
    return tuple(float(number) for number in value)


def parse_indices(field: str, text: str) -> list[int]:
    """Returns the dimension indices of a text such as "0,3,7-9", in its order.

    Args:
        field: Name of the field, for the error.
        text: The text.

    Raises:
        ConfigError: The text names no dimension, names one twice, or cannot be read.
    """
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
    """Returns the request with its dimensions and scale written out; the model can answer it at a bounded cost.

    Args:
        request: The request.
        info: The model's description.
        num_images: Number of pictures that come with the request: 0 with z or seed, 1, or 2 for an interpolation.

    Raises:
        ConfigError: The model cannot answer the request, or the cost is too high; the error names the field.
    """
    latent_dim = info.network.latent_dim
    has_latent = request.z is not None or request.seed is not None
    if num_images == 0 and not has_latent:
        raise ConfigError("image", "is missing: give an image, or a latent vector z, or a seed")
    if num_images and has_latent:
        raise ConfigError("z" if request.z is not None else "seed", "cannot be combined with an image: give one start")
    for field, vector in (("z", request.z), ("z2", request.z2)):
        if vector is not None and len(vector) != latent_dim:
            raise ConfigError(field, f"must hold {latent_dim} numbers for this model, not {len(vector)}")
    is_path = request.is_path(num_images)
    if is_path and request.grid is not None:
        second = "image" if num_images == 2 else "latent vector"
        raise ConfigError("grid", f"cannot be combined with a second {second}")
    if not is_path:
        request = request.replace(dimensions=_resolve_dimensions(request, info))
        _check_range(request, info, num_images)
    if request.scale == 0:
        request = request.replace(scale=_automatic_scale(request, info, num_images))
    _check_cost(request, info, num_images)
    return request


def _resolve_dimensions(request: TraversalRequest, info: ModelInfo) -> str:
    """Returns the indices as text, in ascending order.

    For a model without KLs, `active` stays as it is, because the KLs of the image decide then.
    """
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
        chosen = info.active_dimensions
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
    """Returns the largest number of strips of frames that the renderer decodes.

    These are the strips of the dimensions, the rows and the two dimensions of a grid, or the path of an interpolation.
    """
    if request.is_path(num_images):
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
    """Refuses a request that would take too much memory or time, before anything is decoded."""
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
