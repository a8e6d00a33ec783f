"""Hyperparameters of a training run, defined once for the HTTP schema, the command line and the loop; free of torch.

The settings of the objective are defined in training.objectives; here they are read and written flat, beside the other
settings: `{"objective": "capacity", "gamma": 100, "num_steps": 20000}`.
"""

import copy
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator
from pydantic.fields import FieldInfo

from models.config import (
    MAX_CROP_SIZE,
    MAX_STEPS,
    Architecture,
    Config,
    ConfigError,
    ImageSize,
    NetworkConfig,
    NumChannels,
    unit,
    unknown_setting,
)
from models.info import Crop, Likelihood, ModelInfo, Preprocessing
from training.objectives.base import Objective
from training.objectives.registry import DEFAULT, OBJECTIVES, readers_of

LEAST_PREVIEWS = 10
"""Minimum number of previews per run."""
MOST_VALIDATIONS = 200
"""Maximum number of validations per run by default, since an epoch of few images takes less time than a validation."""


class TrainingConfig(Config):
    """All settings that determine the result of a training run; equal configs and data give equal models."""

    # Network and input
    architecture: Architecture = Field("burgess", description="Convolutional network.")
    image_size: ImageSize = Field(64, description="Height and width of the images.", json_schema_extra=unit("px"))
    num_channels: NumChannels | None = Field(
        None, description="1 for grey images, 3 for RGB; empty: 3 if the pictures have colours, else 1."
    )
    latent_dim: int = Field(10, description="Number D of latent dimensions.", ge=1, le=256)
    crop: Crop = Field(
        "center",
        description="Part of a picture that is kept before resizing: center (the largest centred square) or none (the "
        "whole picture, squashed).",
    )
    crop_size: int | None = Field(
        None,
        description="Side of a centred square that is cut out first, instead of crop.",
        json_schema_extra=unit("px"),
        ge=8,
        le=MAX_CROP_SIZE,
    )

    # Objective
    objective: SerializeAsAny[Objective] = Field(
        default_factory=OBJECTIVES[DEFAULT], description="Loss that a run minimises, with its own settings."
    )
    likelihood: Likelihood = Field(
        "bernoulli",
        description="Likelihood of a pixel. bernoulli: cross entropy; gaussian: squared error (σ² = 1/2); "
        "gaussian_optimal: the σ² that suits the batch best, its mean squared error (σ-VAE, Rybkin et al. 2021).",
    )

    encoder_start: Literal["quiet", "alive"] = Field(
        "quiet",
        description=(
            "Initial weights of the encoder. quiet: latents carry almost no information at first and leave the prior "
            "one by one; alive: all latents carry information from the first step, so that the decoder leaves the mean "
            "image early. The setting has no effect where a run starts from another model."
        ),
    )

    # Optimisation
    num_steps: int = Field(
        100_000, description="Length of the run.", ge=1, le=MAX_STEPS, json_schema_extra=unit("steps")
    )
    num_epochs: float | None = Field(
        None,
        description="Length of the run in epochs, instead of num_steps.",
        json_schema_extra=unit("epochs"),
        gt=0,
        le=100_000,
    )
    batch_size: int = Field(64, description="Images per step.", ge=1, le=8192)
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad", "adadelta"] = Field(
        "adam", description="Optimizer."
    )
    learning_rate: float = Field(5e-4, description="Highest learning rate of the run.", gt=0, le=10)
    learning_rate_schedule: Literal["cooldown", "constant", "cosine", "plateau"] = Field(
        "cooldown",
        description=(
            "Schedule of the learning rate. cooldown: constant, then falls to 0 over the last fifth of the run; "
            "constant; cosine: falls to a hundredth over the last two thirds of the run; plateau: is multiplied by "
            "plateau_factor after plateau_patience validations without a better loss."
        ),
    )
    plateau_factor: float = Field(0.1, description="Factor of the plateau schedule.", gt=0, le=1)
    plateau_patience: int = Field(
        5, description="Validations without a better loss before the rate falls; 0 acts as 1.", ge=0, le=1000
    )
    weight_decay: float = Field(0.0, description="Weight decay (L2, or decoupled for adamw).", ge=0, le=1)
    seed: int = Field(0, description="Seed of weights, data order and noise.", ge=0, le=2**31 - 1)

    # Validation and records
    validation_fraction: float = Field(
        0.05,
        description="Share of the images that is kept for validation, where the set has no split of its own.",
        ge=0,
        le=0.5,
    )
    validation_steps: int | None = Field(
        None,
        description="Steps between validations; empty: once per epoch, but at most 200 times, and at the end.",
        json_schema_extra=unit("steps"),
        ge=1,
        le=MAX_STEPS,
    )
    log_steps: int = Field(
        50,
        description="Steps between records; each record holds the means since the last one.",
        json_schema_extra=unit("steps"),
        ge=1,
        le=100_000,
    )
    preview_steps: int = Field(
        2_000,
        description="Steps between previews; a run makes at least ten; 0: none.",
        json_schema_extra=unit("steps"),
        ge=0,
        le=MAX_STEPS,
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)

    @model_validator(mode="before")
    @classmethod
    def _gather_objective(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Moves the objective's settings from the flat form into an objective."""
        objective = values.get("objective", DEFAULT)
        if isinstance(objective, str):
            if objective not in OBJECTIVES:
                raise ConfigError("objective", f"must be one of {', '.join(OBJECTIVES)}, not {objective!r}")
            objective = OBJECTIVES[objective]()
        elif not isinstance(objective, Objective):
            raise ConfigError("objective", f"must be a text, not {objective!r}")
        own = {name: value for name, value in values.items() if name in type(objective).model_fields}
        common = {name: value for name, value in values.items() if name not in own}
        for name, value in list(common.items()):
            if name not in cls.model_fields:
                if readers := readers_of(name):
                    if value is None:
                        del common[name]
                        continue
                    raise ConfigError(name, f"is not read by the objective {objective.name}, but by {_all(readers)}")
                raise unknown_setting(name, all_settings(), "is not a setting of a training run")
        return {**common, "objective": objective.replace(**own) if own else objective}

    @model_validator(mode="after")
    def _check_objective(self) -> Self:
        self.objective.check_run(self.batch_size, self.latent_dim)
        return self

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some settings changed.

        Where the objective changes, the new one keeps the settings of the old one that both read and that differ from
        their defaults.

        Args:
            changes: The changed settings in the flat form.
        """
        flat = config_to_json(self)
        objective = changes.get("objective", self.objective.name)
        if objective != self.objective.name:
            kept = OBJECTIVES[objective].model_fields if objective in OBJECTIVES else ()
            for name, setting in type(self.objective).model_fields.items():
                if isinstance(objective, Objective) or name not in kept or flat[name] == setting.default:
                    del flat[name]
        return type(self)(**{**flat, **changes})

    @property
    def network(self) -> NetworkConfig:
        """The settings of the run's network; the number of channels must be known."""
        return NetworkConfig(
            architecture=self.architecture,
            image_size=self.image_size,
            num_channels=self._num_channels(),
            latent_dim=self.latent_dim,
            **self.objective.latents,
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of the run's pictures; the number of channels must be known."""
        return Preprocessing(
            image_size=self.image_size, num_channels=self._num_channels(), crop=self.crop, crop_size=self.crop_size
        )

    def _num_channels(self) -> int:
        if self.num_channels is None:
            raise ValueError("num_channels is unset until the pictures are known (see with_channels)")
        return self.num_channels


def all_settings() -> dict[str, FieldInfo]:
    """Returns all settings of all objectives in the flat form, by name.

    The description of an objective's setting ends with the names of the objectives that read it.
    """
    settings: dict[str, FieldInfo] = {}
    for name, field in TrainingConfig.model_fields.items():
        if name != "objective":
            settings[name] = field
            continue
        settings[name] = _objective_field()
        for one in dict.fromkeys(n for objective in OBJECTIVES.values() for n in objective.model_fields):
            settings[one] = _merged(one)
    return settings


def _objective_field() -> FieldInfo:
    text = "; ".join(f"{name}: {objective.summary}" for name, objective in OBJECTIVES.items())
    names: Any = Literal[tuple(OBJECTIVES)]
    return FieldInfo(
        annotation=names,
        default=DEFAULT,
        description=f"{text}. A request with gamma or beta but no objective selects capacity or beta, unless the "
        f"preset's objective is not {DEFAULT}.",
    )


def _merged(name: str) -> FieldInfo:
    """Merges one setting of several objectives; its description states the differences between them."""
    readers = readers_of(name)
    fields = {reader: OBJECTIVES[reader].model_fields[name] for reader in readers}
    merged = copy.copy(fields[readers[0]])
    texts = {field.description for field in fields.values()}
    if len(texts) == 1 and len({field.default for field in fields.values()}) == 1:
        merged.description = f"{str(merged.description).rstrip('.')} ({', '.join(readers)})."
        return merged
    parts = []
    for reader, field in fields.items():
        default = "" if field.default is None else f" (default {field.default:g})"
        parts.append(f"{reader}: {str(field.description).rstrip('.')}{default}")
    merged.description, merged.default = "; ".join(parts) + ".", None
    return merged


def _all(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def with_channels(config: TrainingConfig, num_channels: int) -> TrainingConfig:
    """Returns the config with this number of channels if the number was unset."""
    return config if config.num_channels is not None else config.replace(num_channels=num_channels)


def with_lengths_in_steps(config: TrainingConfig, steps_per_epoch: int) -> TrainingConfig:
    """Returns the config with all lengths in steps, including those that were unset or given in epochs.

    Args:
        config: The config.
        steps_per_epoch: Number of batches in one pass over the training split.
    """
    num_steps = config.num_steps
    if config.num_epochs is not None:
        num_steps = max(1, round(config.num_epochs * steps_per_epoch))
    return config.replace(
        objective=config.objective.in_steps(num_steps, steps_per_epoch),
        num_steps=num_steps,
        num_epochs=None,
        validation_steps=config.validation_steps or max(1, steps_per_epoch, num_steps // MOST_VALIDATIONS),
        preview_steps=min(config.preview_steps, max(1, num_steps // LEAST_PREVIEWS)),
    )


def for_pictures(config: TrainingConfig) -> TrainingConfig:
    """Returns the config with the settings that the objective derives from the pictures.

    Args:
        config: The config, with known lengths in steps and a known number of channels.
    """
    assert config.num_channels is not None
    return config.replace(objective=config.objective.for_pictures(config.num_channels, config.latent_dim))


def as_it_began(config: TrainingConfig, began: TrainingConfig) -> TrainingConfig:
    """Returns the config with unset options from the run's checkpoint, so that a changed default cannot alter the run.

    Args:
        config: The config of a resumed run.
        began: The config that the run began with, from its checkpoint.
    """
    own, earlier = config_to_json(config), config_to_json(began)
    names = ("validation_steps", *config.objective.settled_by_run)
    return config.replace(**{name: earlier.get(name) for name in names if own[name] is None})


def check_initial_network(config: TrainingConfig, network: NetworkConfig) -> None:
    """Checks that a run can start from the weights of a model.

    Args:
        config: The run's config.
        network: The model's network.

    Raises:
        ConfigError: The networks differ; the message names the differing settings.
    """
    own = config.network
    differing = [
        f"{name} {getattr(network, name)} (this run: {getattr(own, name)})"
        for name in NetworkConfig.model_fields
        if getattr(network, name) != getattr(own, name)
    ]
    if differing:
        raise ConfigError("from", f"the model has another network: {', '.join(differing)}")


_SETTINGS_OF_MODEL = (
    *(name for name in NetworkConfig.model_fields if name in TrainingConfig.model_fields),
    "crop",
    "crop_size",
    "likelihood",
)
"""Settings that a run takes from the model that it starts from: those of its network and of the network's input."""
_SETTINGS_OF_LATENTS = tuple(name for name in NetworkConfig.model_fields if name not in TrainingConfig.model_fields)
"""Settings of the network that belong to an objective, which the run then takes from the model too."""


def settings_of_model(info: ModelInfo) -> dict[str, Any]:
    """Returns the settings that a run takes from the model that it starts from, by name."""
    network = {**vars(info.preprocessing), **vars(info.network), "likelihood": info.likelihood}
    return inherited_settings({**network, "objective": info.training.get("objective")})


def inherited_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those settings of an earlier run that a run takes which starts from its weights.

    The objective is among them only if the network's latents belong to it.

    Args:
        values: Settings by name in the flat form.
    """
    taken = {name: values[name] for name in _SETTINGS_OF_MODEL if name in values}
    for name in _SETTINGS_OF_LATENTS:
        if values.get(name) is not None:
            readers, own = readers_of(name), values.get("objective")
            taken |= {name: values[name], "objective": own if own in readers else readers[0]}
    return taken


def over_inherited(inherited: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the inherited settings with the given ones in their place.

    If another objective is given, the inherited one leaves with its settings; check_initial_network then says what does
    not fit.

    Args:
        inherited: The output of inherited_settings.
        given: Settings that a request names.
    """
    is_other = given.get("objective") not in (None, inherited.get("objective"))
    left_out = {"objective", *_SETTINGS_OF_LATENTS} if is_other else set()
    return {**{name: value for name, value in inherited.items() if name not in left_out}, **given}


def config_to_json(config: TrainingConfig) -> dict[str, Any]:
    """Returns all settings that the run reads, flat, by name."""
    flat: dict[str, Any] = {}
    for name, value in config:
        flat |= {name: value.name, **dict(value)} if isinstance(value, Objective) else {name: value}
    return flat


def settings_read(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a stored config without the settings of other objectives, which earlier versions stored too."""
    name = stored.get("objective", DEFAULT)
    objective = OBJECTIVES.get(name) if isinstance(name, str) else None
    own = objective.model_fields if objective else {}
    return {name: value for name, value in stored.items() if name in own or not readers_of(name)}


def config_from_json(data: Mapping[str, Any]) -> TrainingConfig:
    """Reads a stored config, and ignores the settings of other objectives, which earlier versions stored as well.

    Raises:
        ConfigError: A setting is unknown, or its value is outside its limits.
    """
    return TrainingConfig(**settings_read(data))
