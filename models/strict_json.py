"""JSON as strangers may send it: finite numbers of a bounded size, and nothing that JSON has not."""

import json
from typing import Any


def loads(data: bytes | str) -> Any:
    """The value of a JSON text. Raises ValueError for NaN, Infinity and numbers of 64 bits and more; RecursionError."""
    return json.loads(data, parse_constant=_refuse_constant, parse_float=_finite_float, parse_int=_bounded_int)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def _bounded_int(text: str) -> int:
    value = int(text)
    if abs(value) >= 2**63:
        raise ValueError("a number is too large")
    return value
