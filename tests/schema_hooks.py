"""Hooks of schemathesis, which knows no way to send a raw upload."""

from typing import Any

import schemathesis

from app.api.datasets import RAW_TYPES


@schemathesis.serializer(*RAW_TYPES)
def as_it_is(ctx: Any, value: Any) -> bytes:
    """Returns the generated body of a raw upload unchanged."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
