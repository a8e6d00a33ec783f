"""Settings of a network, defined once, with bounds, unit and text, and what reads those of a training; free of torch.

`setting` and `checked` serve every configuration of the project: the HTTP schema, the command line and the
README's tables all read what stands here.
"""

from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, get_args

_OBJECTIVES_OF = {
    "gamma": ("capacity",),
    "capacity_start": ("controlled", "capacity"),
    "capacity_max": ("controlled", "capacity"),
    "capacity_steps": ("controlled", "capacity"),
    "capacity_epochs": ("controlled", "capacity"),
    "beta": ("beta", "btcvae", "annealed"),
    "beta_start": ("controlled", "annealed"),
    "beta_least": ("controlled",),
    "beta_gain": ("controlled",),
    "anneal_steps": ("annealed",),
    "restart_step": ("controlled", "annealed"),
    "restart_fraction": ("controlled",),
    "restart_steps": ("controlled", "annealed"),
    "restart_components": ("controlled", "annealed"),
    "restart_axes": ("controlled", "annealed"),
}
"""Settings of a training that only some objectives read."""


def is_read(name: str, objective: object) -> bool:
    """Whether a training with this objective reads the setting."""
    return name not in _OBJECTIVES_OF or objective in _OBJECTIVES_OF[name]


class ConfigError(ValueError):
    """A setting has a value that it cannot have. `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def setting(
    default: Any = MISSING,
    *,
    text: str,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """A dataclass field that carries its own documentation and limits.

    Args: text, one sentence; unit, of the value; minimum and maximum, inclusive bounds; above, an exclusive lower
    bound; choices, the only values allowed.
    """
    metadata = {
        "text": text,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "choices": choices,
    }
    return field(default=default, metadata=metadata)


def check(config: Any) -> None:
    """Raises ConfigError for the first field of a dataclass instance that breaks its own limits."""
    for f in fields(config):
        if f.metadata:
            _check_field(f, getattr(config, f.name))


def field_types(f: Field[Any]) -> tuple[type, ...]:
    """The types that a field allows: (int,), or (int, NoneType) for `int | None`."""
    return get_args(f.type) or (f.type,)


def number_text(value: float) -> str:
    """A number as people write it: whole ones in full, up to sixteen digits."""
    return str(int(value)) if abs(value) < 1e16 and value == int(value) else f"{value:g}"


def _check_field(f: Field[Any], value: Any) -> None:
    limits = f.metadata
    types = field_types(f)
    if value is None:
        if type(None) not in types:
            raise ConfigError(f.name, "must have a value")
        return
    # bool is an int to Python, and an int does for a float; neither would be right the other way round.
    is_bool = isinstance(value, bool)
    if int in types and (is_bool or not isinstance(value, int)):
        raise ConfigError(f.name, f"must be a whole number, not {value!r}")
    if float in types and (is_bool or not isinstance(value, int | float)):
        raise ConfigError(f.name, f"must be a number, not {value!r}")
    if float in types and not abs(value) < float("inf"):
        raise ConfigError(f.name, "must be finite")
    if bool in types and not is_bool:
        raise ConfigError(f.name, f"must be true or false, not {value!r}")
    if str in types and not isinstance(value, str):
        raise ConfigError(f.name, f"must be a text, not {value!r}")
    if limits["choices"] and value not in limits["choices"]:
        raise ConfigError(f.name, f"must be one of {', '.join(map(str, limits['choices']))}, not {value!r}")
    if limits["minimum"] is not None and value < limits["minimum"]:
        raise ConfigError(f.name, f"must be at least {number_text(limits['minimum'])}, not {number_text(value)}")
    if limits["maximum"] is not None and value > limits["maximum"]:
        raise ConfigError(f.name, f"must be at most {number_text(limits['maximum'])}, not {number_text(value)}")
    if limits["above"] is not None and value <= limits["above"]:
        raise ConfigError(f.name, f"must be above {number_text(limits['above'])}, not {number_text(value)}")


ARCHITECTURES = ("burgess", "higgins")
IMAGE_SIZES = (32, 64, 128)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What a network is built from."""

    architecture: str = setting(
        "burgess",
        text="Convolutional network: burgess (32 channels a layer, two of 256) or higgins (32-32-64-64, one of 256).",
        choices=ARCHITECTURES,
    )
    image_size: int = setting(64, text="Height and width of the images.", unit="px", choices=IMAGE_SIZES)
    num_channels: int = setting(1, text="1 for grey images, 3 for RGB.", choices=(1, 3))
    latent_dim: int = setting(10, text="Number D of latent dimensions.", minimum=1, maximum=256)

    def __post_init__(self) -> None:
        check(self)


def normalised_beta(beta: float, network: NetworkConfig) -> float:
    """β·D/(C·H·W): Higgins et al. 2017 compare data sets and latent sizes by it."""
    return beta * network.latent_dim / (network.num_channels * network.image_size**2)
