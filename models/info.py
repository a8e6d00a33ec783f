"""model.json, the description of a trained model; free of torch."""

import copy
import json
import re
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from models.atomic import write_bytes
from models.config import MAX_CROP_SIZE, Config, ConfigError, NetworkConfig, NumChannels, first_error, unit

FORMAT_VERSION = 1
WEIGHTS_FILE = "model.safetensors"
INFO_FILE = "model.json"
PRETRAINED = Path(__file__).parent / "pretrained"
"""Folder of the small trained models that ship with the package, one folder per id."""

ACTIVE_KL_NATS = 0.05
"""A latent dimension is active only if its mean KL to the prior is above this many nats."""
MAX_LABEL_LENGTH = 60
"""Number of letters that a label of a dimension may have, whether it is measured or a person writes it."""
MIN_VISIBLE_CHANGE = 30.0
"""A latent dimension is active only if its `visible_change` (worker.rendering.effects), where it was measured, is at
least this many levels of 8 bits. Below, sprites of a twentieth of the picture differ by a blurred outline alone."""
LABEL_SPAN = 2.0
"""Half-width of the traversal that a label describes, in units of NetworkConfig.latent_unit."""

Crop = Literal["center", "none"]
Likelihood = Literal["bernoulli", "gaussian", "gaussian_optimal"]

_PER_DIMENSION = (
    "kl_per_dimension", "aggregate_mean", "aggregate_std", "typical_mean", "dimension_labels", "dimension_effects",
)  # fmt: skip
_NAME = r"[A-Za-z0-9][A-Za-z0-9 ._()-]{0,99}"
OPTIONAL_NAME = rf"^(\s*{_NAME}\s*)?$"
"""A name as a request may give it, or an empty text."""


def validate_name(name: str) -> str:
    """Returns the name without surrounding spaces.

    Raises:
        ConfigError: The name is empty, too long, or contains unusual characters.
    """
    name = name.strip()
    if not re.fullmatch(_NAME, name):
        raise ConfigError(
            "name", "must be 1 to 100 letters, digits, spaces or . _ - ( ), and begin with a letter or digit"
        )
    return name


class PreprocessingRequest(Config):
    """Preprocessing as requested; the number of channels may be left to the pictures."""

    image_size: int = Field(
        64, description="Height and width after resizing.", ge=8, le=1024, json_schema_extra=unit("px")
    )
    num_channels: NumChannels | None = Field(
        None, description="1 for grey images, 3 for RGB; empty: 3 if the pictures have colours, else 1."
    )
    crop: Crop = Field(
        "center",
        description="Region kept before resizing: center (the largest centred square), none (squash the whole "
        "picture).",
    )
    crop_size: int | None = Field(
        None,
        description="Side of a centred square that is cut out first, as K13 and AX do with CelebA.",
        ge=8,
        le=MAX_CROP_SIZE,
        json_schema_extra=unit("px"),
    )

    def with_channels(self, num_channels: int) -> "Preprocessing":
        """Returns the preprocessing with this number of channels."""
        return Preprocessing(**{**dict(self), "num_channels": num_channels})


class Preprocessing(PreprocessingRequest):
    """How a picture of any size becomes a network's input; stored in the model, so that later pictures match."""

    num_channels: NumChannels = Field(1, description="1 for grey images, 3 for RGB.")


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Everything about a trained model but its weights."""

    name: str
    network: NetworkConfig
    preprocessing: Preprocessing
    likelihood: str = "bernoulli"
    dataset: dict[str, Any] = field(default_factory=dict)
    """The training set: id, name, digest (sha256 of the packed images and factors) and num_images."""
    training: dict[str, Any] = field(default_factory=dict)
    """The resolved TrainingConfig; empty for an imported model."""
    step: int = 0
    kl_per_dimension: list[float] = field(default_factory=list)
    """Mean KL to the prior per latent dimension, (D,) nats, over a sample of the data set."""
    reconstruction_loss: float | None = None
    """Reconstruction loss when decoding the posterior mean, in nats per image."""
    explained_variance: float | None = None
    """Share of the variance of the pixels around the mean image that the reconstructions explain."""
    steered_beta: float | None = None
    """β of the last step, where the objective steers it."""
    bernoulli_floor: float | None = None
    """Part of the reconstruction loss that no network can avoid: the entropy of the images, in nats per image. None
    where the likelihood has no such floor, or where it was not measured."""
    metrics: dict[str, Any] = field(default_factory=dict)
    aggregate_mean: list[float] = field(default_factory=list)
    aggregate_std: list[float] = field(default_factory=list)
    """Mean and standard deviation of the posterior means over a sample of the data set, each (D,)."""
    typical_mean: list[float] = field(default_factory=list)
    """Posterior mean of the image that is nearest to the mean of all posterior means, (D,); empty if not measured."""
    familiarity: dict[str, float] = field(default_factory=dict)
    """99th percentiles over validation images, in nats: `reconstruction_error_p99`, of the reconstruction loss less the
    image's own floor, and `kl_p99`, of the KL summed over the dimensions; empty if not measured."""
    dimension_labels: list[str] = field(default_factory=list)
    dimension_effects: list[dict[str, Any]] = field(default_factory=list)
    """Effect of moving each dimension (worker.rendering.labels); D entries or none."""
    licence: str = ""
    source: str = ""
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    weights_sha256: str = ""

    @property
    def active_dimensions(self) -> list[int]:
        """Indices of the dimensions that carry information and whose effect an eye can see."""
        return self.active_among(self.kl_per_dimension)

    def active_among(self, kl_per_dimension: list[float]) -> list[int]:
        """Returns the active dimensions for KLs other than those of the description, such as those of one image.

        Args:
            kl_per_dimension: KL per dimension, (D,) nats.
        """
        return [k for k in active_dimensions(kl_per_dimension) if self.is_visible(k)]

    def is_visible(self, dimension: int) -> bool:
        """Returns whether an eye can see the effect of a dimension; True where the effect was not measured."""
        effect = self.dimension_effects[dimension] if self.dimension_effects else {}
        change = effect.get("visible_change")
        return not isinstance(change, int | float) or change >= MIN_VISIBLE_CHANGE

    def label_ends(self, dimension: int) -> tuple[list[float], list[float]]:
        """Returns the latent vectors at both ends of a dimension, from which its label's two pictures are decoded."""
        start = self.typical_mean or self.aggregate_mean or [0.0] * self.network.latent_dim
        first, last = list(start), list(start)
        span = LABEL_SPAN * self.network.latent_unit
        first[dimension], last[dimension] = -span, span
        return first, last

    def unfamiliarity(self, reconstruction_error: float, kl: float) -> tuple[bool | None, str | None]:
        """Returns whether a picture is unlike those that the model knows, and why.

        Args:
            reconstruction_error: The picture's reconstruction loss less its floor, nats.
            kl: The picture's KL, summed over the dimensions, nats.

        Returns:
            None and the reason if the model has no thresholds.
        """
        if not {"reconstruction_error_p99", "kl_p99"} <= self.familiarity.keys():
            return None, "The model does not record what its own pictures look like (`betavae models label`)."
        exceeded = [
            f"{what} is {value:.0f} nats, and 99 of 100 of its own pictures have at most {self.familiarity[name]:.0f}"
            for what, value, name in (
                ("its reconstruction error", reconstruction_error, "reconstruction_error_p99"),
                ("its KL", kl, "kl_p99"),
            )
            if value > self.familiarity[name]
        ]
        if not exceeded:
            return False, None
        return True, f"This picture is unlike what the model knows: {'; '.join(exceeded)}."

    def to_json(self) -> dict[str, Any]:
        """Returns the content of model.json."""
        return {"format_version": FORMAT_VERSION, **self.described()}

    def described(self) -> dict[str, Any]:
        """Returns all fields by name, ready for JSON."""
        own = {f.name: copy.deepcopy(getattr(self, f.name)) for f in fields(self)}
        return own | {"network": self.network.model_dump(), "preprocessing": self.preprocessing.model_dump()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ModelInfo":
        """Returns the description in the output of to_json; unknown keys are ignored.

        Raises:
            ValueError: A part is missing or invalid.
        """
        if data.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"format_version: expected {FORMAT_VERSION}, found {data.get('format_version')!r}")
        try:
            known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
            known["network"] = NetworkConfig(**data["network"])
            known["preprocessing"] = Preprocessing(**data["preprocessing"])
            info = _validator().validate_python(known)
        except ValidationError as error:
            raise ValueError(f"not a model description: {first_error(error)}") from error
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a model description: {error}") from error
        for name in _PER_DIMENSION:
            values = getattr(info, name)
            if values and len(values) != info.network.latent_dim:
                raise ValueError(f"{name}: expected {info.network.latent_dim} values, found {len(values)}")
        return info


@cache
def _validator() -> TypeAdapter[ModelInfo]:
    """Returns the validator of descriptions, which takes pydantic 6 ms to build."""
    return TypeAdapter(ModelInfo)


def active_dimensions(kl_per_dimension: list[float]) -> list[int]:
    """Returns the indices of the dimensions whose KL is above ACTIVE_KL_NATS."""
    return [k for k, kl in enumerate(kl_per_dimension) if kl > ACTIVE_KL_NATS]


def read_info(folder: Path) -> ModelInfo:
    """Reads the description in a model's folder.

    Raises:
        ValueError: The description is missing or damaged.
    """
    try:
        data = json.loads((folder / INFO_FILE).read_text("utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder.name}: no readable {INFO_FILE}: {error}") from error
    return ModelInfo.from_json(data)


def write_info(folder: Path, info: ModelInfo) -> None:
    """Writes model.json, completely or not at all."""
    write_bytes(folder / INFO_FILE, (json.dumps(info.to_json(), indent=2) + "\n").encode())
