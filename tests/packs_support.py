"""Packs for tests that are written in one call."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.info import Preprocessing
from training.data.pack_writer import PackWriter
from training.data.packs import PackInfo


def write_pack(
    folder: Path, blocks: Iterable[NDArray[np.uint8]], *, preprocessing: Preprocessing, **description: Any
) -> PackInfo:
    """Writes a whole pack.

    Args:
        folder: The pack's folder.
        blocks: Arrays (n, H, W, C) of uint8, in order.
        preprocessing: The size and channels that the blocks have.
        **description: Arguments of PackWriter.finish: name, kind, source, factors, …
    """
    with PackWriter(folder, preprocessing) as writer:
        for block in blocks:
            writer.add(block)
        return writer.finish(**description)
