"""Disentanglement scores. `infomec` is loaded when it is asked for, since the API has none of its packages."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "infomec":
        from training.metrics.infomec_scores import infomec

        return infomec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
