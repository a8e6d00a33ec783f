"""Folders and zips of pictures for tests, and their packing."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.data.datasets import DatasetError, ImageFolder, Source, ZipFile, fingerprint, pack_dataset
from training.data.images import Preprocessing
from training.data.packs import Pack, open_pack

GREY = Preprocessing(image_size=16, num_channels=1)
RGB = Preprocessing(image_size=16, num_channels=3)


def picture(seed: int, size: tuple[int, int] = (16, 16), format: str = "PNG") -> bytes:
    """Returns the file of a picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


Files = dict[str, bytes]


def as_folder(root: Path, files: Files) -> ImageFolder:
    folder = root / "pictures"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return ImageFolder(folder)


def as_zip(root: Path, files: Files) -> ZipFile:
    path = root / "pictures.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return ZipFile(path)


def as_tar(root: Path, files: Files, *, suffix: str = ".tar") -> ZipFile:
    """Returns a tar, compressed if the suffix says so."""
    path = root / f"pictures{suffix}"
    with tarfile.open(path, "w" if suffix == ".tar" else "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return ZipFile(path)


Make = Callable[[Path, Files], ImageFolder | ZipFile]
both = pytest.mark.parametrize("make", [as_folder, as_zip, as_tar], ids=["folder", "zip", "tar"])


def packed(source: Source, root: Path, preprocessing: Preprocessing = RGB, **options: Any) -> Pack:
    """Packs a source into root/pack, and returns the open pack."""
    pack_dataset(source, root / "pack", preprocessing, **options)
    return open_pack(
        root / "pack",
        preprocessing=preprocessing,
        source_fingerprint=fingerprint(source, options.get("limits")),
        verify=True,
    )


def code_of(source: Source, root: Path, **options: Any) -> str:
    """Returns the code with which packing fails, and checks that it leaves nothing behind."""
    before = sorted(os.listdir(root))
    with pytest.raises(DatasetError) as caught:
        pack_dataset(source, root / "pack", RGB, **options)
    assert sorted(os.listdir(root)) == before
    assert caught.value.message
    return caught.value.code
