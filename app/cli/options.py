"""Command-line options made from the fields of a config class, so that every setting is defined once."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic.fields import FieldInfo

from models.config import ConfigError, choices_of, number_text, value_type

Command = TypeVar("Command", bound=Callable[..., Any])

DeviceOption = Annotated[
    str | None, typer.Option("--device", help="The device: auto, cpu or cuda:N.", show_default="BETAVAE_DEVICE")
]
"""The option of the commands that run a network."""

_SIGNS = {"ge": "≥", "gt": ">", "le": "≤"}


def _help(field: FieldInfo) -> str:
    """Returns the setting's text, unit, limits and default."""
    bounds = {kind: getattr(limit, kind) for limit in field.metadata for kind in _SIGNS if hasattr(limit, kind)}
    extra = field.json_schema_extra
    parts = [str(extra["unit"])] if isinstance(extra, dict) and "unit" in extra else []
    parts += [f"{_SIGNS[kind]} {number_text(limit)}" for kind, limit in bounds.items()]
    if not field.is_required() and field.default is not None:
        is_number = isinstance(field.default, int | float) and not isinstance(field.default, bool)
        parts.append(f"default {number_text(field.default) if is_number else field.default}")
    return f"{field.description} ({', '.join(parts)})" if parts else str(field.description)


def _option(name: str, field: FieldInfo, panel: str) -> Any:
    """Returns the annotation of one option, whose value is None where it was not given."""
    kind: Any = value_type(field)
    choices = choices_of(field)
    extra: dict[str, Any] = {}
    if choices and kind is str:
        kind = Literal[choices]
    if choices and kind is int:
        extra["metavar"] = "|".join(map(str, choices))
    flag = "--" + name.replace("_", "-")
    option = typer.Option(flag, help=_help(field), rich_help_panel=panel, show_default=False, **extra)
    return Annotated[kind | None, option]


def with_options_of(
    settings: Mapping[str, FieldInfo], panel: str, *, leave_out: Iterable[str] = ()
) -> Callable[[Command], Command]:
    """Returns a decorator that gives a command one option for each setting.

    The command receives the options that were given in its argument `settings`.

    Args:
        settings: The settings by name.
        panel: The heading of the options in --help.
        leave_out: Names of settings that the command takes in its own way.
    """
    chosen = {name: field for name, field in settings.items() if name not in set(leave_out)}

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        parameters = [p for p in own.parameters.values() if p.name != "settings"]
        parameters += [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(name, field, panel)
            )
            for name, field in chosen.items()
        ]

        def run(**given: Any) -> Any:
            values = {name: given.pop(name) for name in chosen}
            return command(**given, settings={name: value for name, value in values.items() if value is not None})

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run  # type: ignore[return-value]

    return decorate


def parse_pairs(settings: Mapping[str, FieldInfo], pairs: Iterable[str]) -> Mapping[str, Any]:
    """Returns KEY=VALUE texts as typed values by key. An unknown key stays, with its text as the value.

    Args:
        settings: The settings by name.
        pairs: The texts.

    Raises:
        ConfigError: A text has no "=", or its value has another type than the setting.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError("--config", f"expected KEY=VALUE, not {pair!r}")
        key = key.strip().replace("-", "_")
        kind = value_type(settings[key]) if key in settings else str
        try:
            values[key] = _parse(kind, text.strip())
        except (ValueError, KeyError):
            raise ConfigError(key, f"{text!r} is not a valid {kind.__name__}") from None
    return values


def _parse(kind: type, text: str) -> Any:
    """Returns the value of a text, or None for none and null; raises ValueError or KeyError."""
    if text.lower() in ("none", "null", ""):
        return None
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    return kind(text)
