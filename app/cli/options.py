"""Command-line options made from the fields of a config class, so that every setting is defined once."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, Literal, TypeVar

import typer

from models.config import ConfigError, number_text

Command = TypeVar("Command", bound=Callable[..., Any])

_KINDS: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}


def _type_name(field: Field[Any]) -> str:
    return str(getattr(field.type, "__name__", field.type)).replace(" | None", "")


def _help(field: Field[Any]) -> str:
    """The field's text, unit, limits and default."""
    limits = field.metadata
    parts = [limits["unit"]] if limits["unit"] else []
    if limits["minimum"] is not None:
        parts.append(f"≥ {number_text(limits['minimum'])}")
    if limits["above"] is not None:
        parts.append(f"> {number_text(limits['above'])}")
    if limits["maximum"] is not None:
        parts.append(f"≤ {number_text(limits['maximum'])}")
    if field.default is not MISSING and field.default is not None:
        is_number = isinstance(field.default, int | float) and not isinstance(field.default, bool)
        parts.append(f"default {number_text(field.default) if is_number else field.default}")
    return f"{limits['text']} ({', '.join(parts)})" if parts else str(limits["text"])


def _option(field: Field[Any], panel: str) -> Any:
    """The annotation of one option; None means that it was not given."""
    kind: Any = _KINDS.get(_type_name(field), str)
    choices = field.metadata["choices"]
    flag = "--" + field.name.replace("_", "-")
    extra: dict[str, Any] = {}
    if choices and kind is str:
        kind = Literal[choices]
    if choices and kind is int:
        extra["metavar"] = "|".join(map(str, choices))
    option = typer.Option(flag, help=_help(field), rich_help_panel=panel, show_default=False, **extra)
    return Annotated[kind | None, option]


def with_options_of(config: type, panel: str, *, leave_out: Iterable[str] = ()) -> Callable[[Command], Command]:
    """A decorator: the command takes one option a field, and finds those that were given in `settings`, a mapping.

    Args: panel, the heading in --help; leave_out, fields that the command takes in its own way.
    """
    chosen = [field for field in fields(config) if field.name not in set(leave_out)]

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        parameters = [p for p in own.parameters.values() if p.name != "settings"]
        parameters += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(f, panel))
            for f in chosen
        ]

        def run(**given: Any) -> Any:
            settings = {field.name: given.pop(field.name) for field in chosen}
            return command(**given, settings={name: value for name, value in settings.items() if value is not None})

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run  # type: ignore[return-value]

    return decorate


def parse_pairs(config: type, pairs: Iterable[str]) -> Mapping[str, Any]:
    """KEY=VALUE texts as typed values; unknown keys are kept. Raises ConfigError for what is none."""
    kinds = {field.name: _type_name(field) for field in fields(config)}
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError("--config", f"expected KEY=VALUE, not {pair!r}")
        key = key.strip().replace("-", "_")
        try:
            values[key] = _parse(kinds.get(key, "str"), text.strip())
        except (ValueError, KeyError):
            raise ConfigError(key, f"{text!r} is no {kinds[key]}") from None
    return values


def _parse(kind: str, text: str) -> Any:
    if text.lower() in ("none", "null", ""):
        return None
    if kind == "bool":
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    return _KINDS.get(kind, str)(text)
