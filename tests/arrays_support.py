"""Array files for tests, and their packing."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from training.data.datasets import ArrayFile, fingerprint, pack_dataset
from training.data.images import Preprocessing
from training.data.packs import Pack, open_pack

RGB = Preprocessing(image_size=64, num_channels=3)
GREY = Preprocessing(image_size=64, num_channels=1)
SMALL = Preprocessing(image_size=16, num_channels=1)

Arrays = dict[str, NDArray[Any]]


def packed(path: Path, preprocessing: Preprocessing = SMALL) -> Pack:
    """Packs an array file into the folder `pack` beside it, and returns the open pack."""
    source = ArrayFile(path)
    pack_dataset(source, path.parent / "pack", preprocessing, num_workers=1)
    return open_pack(path.parent / "pack", source_fingerprint=fingerprint(source))


def npz_of(root: Path, **arrays: NDArray[Any]) -> Path:
    np.savez(root / "set.npz", **arrays)  # type: ignore[arg-type]
    return root / "set.npz"


def npy_of(root: Path, array: NDArray[Any]) -> Path:
    np.save(root / "set.npy", array)
    return root / "set.npy"


def h5_of(root: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Path:
    """Writes a file of some kB that declares any number of zeros, since unwritten chunks take no space."""
    with h5py.File(root / "set.h5", "w") as file:
        file.create_dataset("images", shape, np.uint8, chunks=chunks, compression="gzip")
    return root / "set.h5"


def noise(*shape: int, top: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, top, shape, dtype=np.uint8)
