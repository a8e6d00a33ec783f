"""The base of every group of settings, and the settings of a network; free of torch.

A group of settings is a frozen pydantic model that is defined once: the HTTP schema, the command line's options and the
tables in the docs all read its fields. `ConfigError` names the wrong field in the same words everywhere.
"""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo


class ConfigError(ValueError):
    """A setting has an invalid value. `field` names the setting."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Config(BaseModel):
    """Base of all groups of settings: frozen, strict about types, and closed to unknown names.

    A field's `Field(...)` carries its text, its bounds and, as `json_schema_extra=unit("nats")`, its unit.

    Raises:
        ConfigError: A value is outside its limits, or a name is not a setting of the group.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    def __init__(self, **values: Any) -> None:
        try:
            # Validation is strict about types: "5", True and 2.5 are not whole numbers.
            self.__pydantic_validator__.validate_python(values, strict=True, self_instance=self)
        except ValidationError as error:
            raise first_error(error, type(self).model_fields) from None

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some settings changed; all of them are validated again."""
        return type(self)(**{**dict(self), **changes})


MAX_STEPS = 100_000_000
"""Largest value of a setting that counts steps."""
MAX_CROP_SIZE = 4096
"""Largest side of the square that is cut out of a picture, in pixels."""


def unit(name: str) -> dict[str, Any]:
    """Returns the extra key of a setting's JSON schema that names its unit."""
    return {"unit": name}


def value_type(field: FieldInfo) -> type:
    """Returns the type of a setting's values: int, float, bool or str; None and the limits are ignored."""
    found = [get_origin(part) or part for part in get_args(field.annotation) or (field.annotation,)]
    kinds = {type(choice) for choice in choices_of(field)} | set(found)
    return next((kind for kind in (bool, int, float) if kind in kinds), str)


def choices_of(field: FieldInfo) -> tuple[Any, ...]:
    """Returns the only values that a setting accepts, without None; empty where it accepts any value within bounds."""
    waiting: list[Any] = [field.annotation]
    choices: list[Any] = []
    while waiting:
        part = waiting.pop()
        if get_origin(part) is Literal:
            choices += get_args(part)
        else:
            waiting += [one for one in get_args(part) if not isinstance(one, BeforeValidator)]
    return tuple(choice for choice in choices if choice is not None)


def number_text(value: float) -> str:
    """Formats a number as people write it; whole numbers have all of their digits, up to sixteen."""
    return str(int(value)) if abs(value) < 1e16 and value == int(value) else f"{value:g}"


def unknown_setting(name: str, known: Iterable[str], message: str = "is not a known setting") -> ConfigError:
    """Returns the error for a name that is not a setting, with the nearest known name where one is close.

    Args:
        name: The unknown name.
        known: All valid names.
        message: The problem, without a full stop.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return ConfigError(name, f"{message}; did you mean {near[0]}?" if near else message)


def first_error(error: ValidationError, known: Iterable[str] = ()) -> ConfigError:
    """Returns the first failure of a pydantic validation as a ConfigError.

    Args:
        error: The failed validation.
        known: Names of the fields, among which a correction of a misspelt name is sought.
    """
    failure = error.errors(include_url=False)[0]
    cause = failure.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return cause
    name = ".".join(str(part) for part in failure["loc"]) or error.title
    if failure["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown_setting(name, known)
    return ConfigError(name, explain(failure))


def explain(failure: Any) -> str:
    """Describes what is wrong with one value, as the end of a sentence that begins with the field's name.

    Args:
        failure: One entry of `ValidationError.errors()`.
    """
    kind, value, limits = failure["type"], failure.get("input"), failure.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if value is None:
        return "must have a value"
    expected = _EXPECTED_TYPES.get(kind)
    if expected:
        return f"must be {expected}, not {_shown(value)}"
    if kind == "finite_number":
        return "must be finite"
    for name, words in _BOUNDS.items():
        if kind.startswith(name):
            limit = limits[_BOUND_KEYS[name]]
            return f"must be {words} {_number_or_text(limit)}, not {_number_or_text(value)}"
    if kind == "literal_error":
        return f"must be one of {_choices(limits['expected'])}, not {_shown(value)}"
    if limits.get("min_length") == 1:
        return "must not be empty"
    if kind in _LENGTHS:
        words, thing = _LENGTHS[kind]
        return f"must have {words} {limits[_LENGTH_KEYS[words]]} {thing}"
    return str(failure["msg"]).removeprefix("Value error, ")


_EXPECTED_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}
_BOUNDS = {
    "greater_than_equal": "at least",
    "greater_than": "above",
    "less_than_equal": "at most",
    "less_than": "below",
}
_LENGTHS = {
    "string_too_short": ("at least", "characters"),
    "string_too_long": ("at most", "characters"),
    "too_short": ("at least", "entries"),
    "too_long": ("at most", "entries"),
}
_LENGTH_KEYS = {"at least": "min_length", "at most": "max_length"}
_BOUND_KEYS = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}


def _number_or_text(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return number_text(value) if is_number else _shown(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _choices(expected: str) -> str:
    """Turns pydantic's "'a', 'b' or 'c'" into "a, b, c"."""
    return expected.replace(" or ", ", ").replace("'", "")


def _whole(value: Any) -> Any:
    """Refuses True and 64.0, which a Literal of integers accepts as 1 and 64."""
    if value is not None and type(value) is not int:
        raise ValueError(f"must be {_EXPECTED_TYPES['int_type']}, not {_shown(value)}")
    return value


IMAGE_SIZES = (32, 64, 128)
ImageSize = Annotated[Literal[32, 64, 128], BeforeValidator(_whole)]
NumChannels = Annotated[Literal[1, 3], BeforeValidator(_whole)]
Architecture = Literal["burgess", "higgins"]


class NetworkConfig(Config):
    """Settings that determine a network's architecture."""

    architecture: Architecture = Field(
        "burgess",
        description="Convolutional network: burgess (32 channels per layer, two hidden layers of 256) or higgins "
        "(32-32-64-64 channels, one hidden layer of 256).",
    )
    image_size: ImageSize = Field(64, description="Height and width of the images.", json_schema_extra=unit("px"))
    num_channels: NumChannels = Field(1, description="1 for grey images, 3 for RGB.")
    latent_dim: int = Field(10, description="Number D of latent dimensions.", ge=1, le=256)
    num_categories: int | None = Field(
        None,
        description="Number K of values that a categorical latent takes between −1 and 1; empty: Gaussian latents.",
        ge=2,
        le=64,
        exclude_if=lambda value: value is None,
    )

    @property
    def latent_unit(self) -> float:
        """Length in latent space of a traversal's unit: σ of the prior N(0, I), or a third of a categorical grid's 1.

        A traversal from −3 to 3 thus covers nearly all of the one prior, and the whole grid of the other.
        """
        return 1.0 if self.num_categories is None else 1 / 3


def normalised_beta(beta: float, network: NetworkConfig) -> float:
    """Returns β·D/(C·H·W), which Higgins et al. 2017 use to compare data sets and latent sizes."""
    return beta * network.latent_dim / (network.num_channels * network.image_size**2)
