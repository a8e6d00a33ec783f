"""Bounds on the content of a foreign model.json, which are checked before it is used; free of torch."""

from typing import Any

from models.info import ModelInfo

MAX_IMPORTED_LABEL_LENGTH = 200
"""Most characters of a dimension's label; the API accepts fewer."""
_MAX_TEXT_LENGTHS = {"name": 1000, "licence": 1000, "source": 1000, "created_at": 100, "weights_sha256": 100}
_TREES = {"dataset": (500, 4), "training": (1000, 4), "metrics": (10_000, 6)}
"""Most values and deepest nesting of the parts without a schema; our own have at most 61 values in three levels."""
_EFFECT = (1000, 4)
"""The same bounds for the effect of one dimension; our own have 92 values."""


def check_limits(info: ModelInfo) -> None:
    """Checks the bounds of a description.

    Raises:
        ValueError: A text is too long, or a part has too many or too deeply nested values; the message names the part.
    """
    for name, most in _MAX_TEXT_LENGTHS.items():
        _check_text(name, getattr(info, name), most)
    for label in info.dimension_labels:
        _check_text("dimension_labels", label, MAX_IMPORTED_LABEL_LENGTH)
    for name, bounds in _TREES.items():
        _check_tree(name, getattr(info, name), *bounds)
    for effect in info.dimension_effects:
        _check_tree("dimension_effects", effect, *_EFFECT)


def _check_text(name: str, text: str, most: int) -> None:
    if len(text) > most:
        raise ValueError(f"{name}: a text of {len(text)} characters, the limit is {most}")


def _check_tree(name: str, value: Any, max_values: int, max_depth: int) -> None:
    """Counts the values of a part of the JSON level by level."""
    count, depth, level = 0, 0, [value]
    while level:
        count += len(level)
        if count > max_values:
            raise ValueError(f"{name}: more than {max_values} values")
        if depth > max_depth:
            raise ValueError(f"{name}: nested deeper than {max_depth} levels")
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += [*one, *one.values()]
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str):
                _check_text(name, one, 1000)
        level, depth = inner, depth + 1
