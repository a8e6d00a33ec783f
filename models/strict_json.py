"""Parses untrusted JSON: numbers are finite and of bounded size, nesting is bounded, and texts are Unicode."""

import json
from typing import Any

MAX_DEPTH = 32
LARGEST_EXACT = 2**53
"""Below it, a floating-point number holds every whole number."""


def loads(data: bytes | str, *, whole: bool = False) -> Any:
    """Returns the value of a JSON text.

    Args:
        data: The text, or its bytes in UTF-8, UTF-16 or UTF-32.
        whole: True reads 64.0 as the whole number 64, which it is in the words of JSON Schema.

    Raises:
        ValueError: The text is not JSON, contains NaN, Infinity, a number of 64 bits and more or a lone surrogate, or
            nests deeper than MAX_DEPTH.
    """
    read = _finite_number if whole else _finite_float
    try:
        value = json.loads(data, parse_constant=_refuse_constant, parse_float=read, parse_int=_bounded_int)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value)
    try:
        # An answer with a lone surrogate could not be sent, nor a file with one be written.
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("text that UTF-8 cannot hold") from None
    return value


_TOO_DEEP = f"lists and objects are nested more than {MAX_DEPTH} deep"


def _check_depth(value: Any) -> None:
    """Checks the nesting of a value.

    Raises:
        ValueError: Lists and objects are nested more than MAX_DEPTH deep.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [node for node in level if isinstance(node, list | dict)]
        if not level:
            return
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    raise ValueError(_TOO_DEEP)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def _finite_number(text: str) -> float | int:
    value = _finite_float(text)
    return int(value) if value.is_integer() and abs(value) < LARGEST_EXACT else value


def _bounded_int(text: str) -> int:
    value = int(text)
    if abs(value) >= 2**63:
        raise ValueError("a number is too large")
    return value
