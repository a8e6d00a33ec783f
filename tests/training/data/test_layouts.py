"""Folders as people keep them: files beside a published set, and odd zips and folders."""

import io
import os
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.data import picture_files
from training.data.datasets import DatasetError, ImageFolder, Limits, ZipFile, fingerprint, pack_dataset
from training.data.file_trees import open_zip
from training.data.images import Preprocessing
from training.data.packs import Pack, open_pack, read_rejected
from training.data.picture_files import check_folder

RGB = Preprocessing(image_size=16, num_channels=3)


Files = dict[str, bytes]


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(seed: int, format: str = "PNG") -> bytes:
    return encode(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)), format)


def folder_of(root: Path, files: Files) -> ImageFolder:
    for name, data in files.items():
        (root / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "set" / name).write_bytes(data)
    return ImageFolder(root / "set")


def packed(source: ImageFolder | ZipFile, root: Path, **options: Any) -> Pack:
    pack_dataset(source, root / "pack", RGB, **options)
    return open_pack(root / "pack")


def rejected(pack: Pack) -> dict[str, str]:
    return {r.file: r.code for r in read_rejected(pack.folder)}


def chairs(num_models: int) -> Files:
    return {
        f"{model:02}/renders/image_{k:03}_p020_t{11 * k:03}_r096.png": picture(10 * model + k)
        for model in range(num_models)
        for k in range(3)
    }


def test_photographs_with_a_few_chairs_are_packed_as_plain_pictures(tmp_path: Path) -> None:
    photographs = {f"{i:03}.jpg": picture(i, "JPEG") for i in range(20)}
    pack = packed(folder_of(tmp_path, chairs(1) | photographs), tmp_path)
    assert (pack.info.kind, pack.info.num_images, rejected(pack)) == ("images", 23, {})


def test_every_picture_beside_3d_chairs_is_reported(tmp_path: Path) -> None:
    others = {"preview.jpg": picture(1, "JPEG"), "a/b.PNG": picture(2), "c.tiff": picture(3, "TIFF")}
    pack = packed(folder_of(tmp_path, chairs(10) | others | {"all_chair_names.mat": b"none"}), tmp_path)
    assert (pack.info.kind, pack.info.num_images) == ("chairs3d", 30)
    assert rejected(pack) == dict.fromkeys(others, "no_label")


def test_a_zip_with_the_separators_of_windows_keeps_its_layout(tmp_path: Path) -> None:
    def zipped(separator: str) -> ZipFile:
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for name, data in {"00/renders/": b"", **chairs(10), "__MACOSX/00/a.png": b""}.items():
                archive.writestr(name.replace("/", separator), data)
        return ZipFile(tmp_path / "set.zip")

    posix, windows = (packed(zipped(separator), tmp_path) for separator in "/\\")
    assert (windows.info.kind, windows.info.num_images, rejected(windows)) == ("chairs3d", 30, {})
    assert windows.info.digest == posix.info.digest


PARTS = b"000001.jpg 0\n000002.jpg 2\n"


def celeba(**lists: bytes) -> Files:
    """Returns two pictures and the given lists; two underscores in a name stand for the dot."""
    files = {f"img_align_celeba/{i:06}.jpg": picture(i, "JPEG") for i in (1, 2)}
    return files | {name.replace("__", "."): text for name, text in lists.items()}


def test_a_file_that_only_resembles_a_celeba_list_is_reported_and_not_read(tmp_path: Path) -> None:
    strays = {"list_eval_partition.txt~": b"000001.jpg 1\n000002.jpg 1\n", "identity_CelebA.docx": b"PK\3\xff"}
    pack = packed(folder_of(tmp_path, celeba(list_eval_partition__txt=PARTS) | strays), tmp_path)
    assert pack.split is not None
    assert pack.split.tolist() == [0, 2]
    assert pack.identities is None
    assert rejected(pack) == dict.fromkeys(strays, "no_label")


def test_numbered_pictures_beside_a_document_are_not_taken_for_celeba(tmp_path: Path) -> None:
    pack = packed(folder_of(tmp_path, {"000001.jpg": picture(1), "identity_CelebA.docx": b"PK\3\xff"}), tmp_path)
    assert pack.info.kind == "images"


def test_further_columns_behind_the_identity_are_ignored(tmp_path: Path) -> None:
    people = b"000001.jpg 5 Ada\n000002.jpg 6 Grace\n"
    pack = packed(folder_of(tmp_path, celeba(identity_CelebA__txt=people)), tmp_path)
    assert pack.identities is not None
    assert pack.identities.tolist() == [5, 6]


@pytest.mark.parametrize("listed", [".jpg", ".png", ".JPG"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".JPG", ".jpeg"])
def test_lists_name_pictures_whatever_the_suffix(tmp_path: Path, listed: str, suffix: str) -> None:
    files = celeba(list_eval_partition__txt=PARTS.replace(b".jpg", listed.encode()))
    pack = packed(folder_of(tmp_path, {name.replace(".jpg", suffix): data for name, data in files.items()}), tmp_path)
    assert (pack.info.kind, pack.info.num_images) == ("celeba", 2)
    assert pack.split is not None
    assert pack.split.tolist() == [0, 2]


@pytest.mark.parametrize("identity", [2**31, -(2**31), 10**30])
def test_an_identity_that_is_too_large_is_reported(tmp_path: Path, identity: int) -> None:
    people = f"000001.jpg {identity}\n000002.jpg 6\n".encode()
    pack = packed(folder_of(tmp_path, celeba(identity_CelebA__txt=people)), tmp_path)
    assert pack.identities is not None
    assert pack.identities.tolist() == [6]
    report = read_rejected(pack.folder)[0]
    assert (report.file, report.code) == ("identity_CelebA.txt", "bad_labels")
    assert report.reason == "line 1: number the identities from 1 to 2147483647"


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of folders that nobody may list, not even root."""
    names: set[str] = set()
    scandir = os.scandir

    def refuse(path: str | int) -> Any:
        if os.path.basename(str(path)) in names:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return names


def test_an_unreadable_folder_is_left_out_alone(tmp_path: Path, locked: set[str]) -> None:
    source = folder_of(tmp_path, {"a.png": picture(1), "x/lost+found/b.png": picture(2)})
    before = fingerprint(source)
    locked.add("lost+found")
    check_folder(source.path, Limits())
    pack = packed(source, tmp_path)
    assert (pack.info.num_images, rejected(pack)) == (1, {"x/lost+found/": "unreadable"})
    assert pack.info.source_fingerprint not in (None, before)


def test_the_refusal_of_an_unreadable_set_has_the_reason(tmp_path: Path, locked: set[str]) -> None:
    source = folder_of(tmp_path, {"lost+found/b.png": picture(2)})
    locked.add("lost+found")
    with pytest.raises(DatasetError, match=r"lost\+found/: the folder cannot be read: Permission denied"):
        check_folder(source.path, Limits())
    locked.add("set")
    with pytest.raises(PermissionError):
        check_folder(source.path, Limits())


@pytest.mark.parametrize(("declared", "refused"), [(1_400_000_000, False), (2 * 10**9, True), (2**36, True)])
def test_a_zip_bomb_is_recognised_by_its_content_and_its_size(tmp_path: Path, declared: int, refused: bool) -> None:
    """A zip of 1300 blank BMPs of 600×600 pixels, which Deflate packs into 1.5 MB, is accepted."""
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.bmp", bytes(1_500_000))
        archive.infolist()[0].file_size = declared
    outcome: AbstractContextManager[Any] = (
        pytest.raises(DatasetError, match="would unpack") if refused else nullcontext()
    )
    with outcome, open_zip(tmp_path / "set.zip", Limits()) as files:
        assert files.names() == ["a.bmp"]


def test_a_chunk_has_fewer_large_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_of(tmp_path, {f"{i:02}.png": picture(i) for i in range(30)} | {"05.png": b"broken"})
    whole = packed(source, tmp_path)
    row = whole.images[0].nbytes
    for limit, chunk in ((10 * row, 10), (row - 1, 1)):
        monkeypatch.setattr(picture_files, "_CHUNK_BYTES", limit)
        seen: list[int] = []
        pack = packed(source, tmp_path, on_progress=lambda done, _, seen=seen: seen.append(done))
        assert seen == list(range(chunk, 31, chunk))
        assert (pack.info.digest, rejected(pack)) == (whole.info.digest, rejected(whole))
