"""The Lua scripts that change job records, loaded from `lua/`; `lua/common.lua` describes the keys in Redis."""

import functools
from importlib.resources import files

PREFIX = "betavae:"
"""Prefix of every key that the service uses in Redis."""

NAMES = (
    "create", "restore", "transition", "claim", "commit", "expire", "delete", "stored", "finish", "share",
    "next_webhook", "end_webhook",
)  # fmt: skip


@functools.cache
def source(name: str) -> str:
    """Returns the text of a script as Redis takes it: the prefix, the common functions and the script.

    Args:
        name: One of `NAMES`.
    """
    folder = files("worker.jobs") / "lua"
    common, script = (folder / f"{part}.lua" for part in ("common", name))
    return f"local P = '{PREFIX}'\n{common.read_text('utf-8')}\n{script.read_text('utf-8')}"
