"""Pictures in folders and zips become a pack; a file that cannot be read is named and left out."""

import io
import json
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from datasets_support import RGB, Make, as_folder, as_zip, both, code_of, packed, picture
from PIL import Image

from training.data.datasets import DatasetError, ImageFolder, Limits, ZipFile
from training.data.images import load_image
from training.data.packs import read_rejected
from training.data.picture_files import check_folder, check_zip


@both
def test_nested_pictures_come_in_the_order_of_their_names(tmp_path: Path, make: Make) -> None:
    files = {f"{'cat' if i % 2 else 'dog/small'}/{i:03}.png": picture(i) for i in range(150)}
    seen: list[tuple[int, int]] = []
    pack = packed(make(tmp_path, files), tmp_path, num_workers=3, on_progress=lambda *p: seen.append(p))
    assert pack.info.kind == "images"
    for image, name in zip(pack.images, sorted(files), strict=True):
        assert np.array_equal(image, load_image(files[name], RGB))
    assert seen[-1] == (150, 150)
    assert seen == sorted(seen)


@both
def test_a_bad_file_is_named_and_the_others_are_kept(tmp_path: Path, make: Make) -> None:
    files = {
        "a.png": picture(1),
        "b.png": picture(2)[:100],
        "notes.txt": b"no picture",
        "empty.jpg": b"",
        "c.jpg": picture(3, format="JPEG"),
        ".hidden.png": b"ignored",
        "__MACOSX/a.png": b"ignored",
    }
    pack = packed(make(tmp_path, files), tmp_path)
    assert (pack.info.num_images, pack.info.num_rejected) == (2, 3)
    rejected = read_rejected(pack.folder)
    assert {r.file for r in rejected} == {"b.png", "notes.txt", "empty.jpg"}
    assert all(r.code == "not_an_image" and r.reason for r in rejected)


@both
def test_the_number_of_threads_changes_nothing(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path, {f"{i:03}.png": picture(i) for i in range(200)})
    digests = {packed(source, tmp_path, num_workers=n).info.digest for n in (1, 4)}
    assert len(digests) == 1


@both
def test_without_a_readable_picture_there_is_no_pack(tmp_path: Path, make: Make) -> None:
    assert code_of(make(tmp_path, {"a.png": b"nothing", "b.txt": b"nothing"}), tmp_path) == "no_images"


def test_an_empty_folder_and_an_empty_zip_have_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert code_of(ImageFolder(tmp_path / "empty"), tmp_path) == "no_images"
    assert code_of(as_zip(tmp_path, {}), tmp_path) == "no_images"


@both
def test_limits_on_files_bytes_and_pixels(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path, {"a.png": picture(1), "big.png": picture(2, (90, 90))})
    assert code_of(source, tmp_path, limits=Limits(max_files=1)) == "too_many_files"
    for limits in (Limits(max_pixels=1000), Limits(max_file_bytes=5000)):
        pack = packed(source, tmp_path, limits=limits)
        (rejected,) = read_rejected(pack.folder)
        assert (rejected.file, rejected.code) == ("big.png", "image_too_large")


def test_links_in_a_folder_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    source = as_folder(tmp_path, {"a/1.png": picture(1)})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.png").write_bytes(picture(2))
    (source.path / "linked").symlink_to(tmp_path / "elsewhere")
    (source.path / "a" / "loop").symlink_to(source.path)
    (source.path / "a" / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    assert packed(source, tmp_path).info.num_images == 2


def test_a_file_that_is_not_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    for data in (b"", b"PK\x03\x04 and then nothing", picture(1), b"PK\x05\x06" + b"\xff" * 18):
        path.write_bytes(data)
        assert code_of(ZipFile(path), tmp_path) in {"not_a_zip", "too_many_files"}


def test_a_truncated_zip_is_refused(tmp_path: Path) -> None:
    source = as_zip(tmp_path, {"a.png": picture(1), "b.png": picture(2)})
    source.path.write_bytes(source.path.read_bytes()[:-30])
    assert code_of(source, tmp_path) == "not_a_zip"


def two_pictures() -> bytearray:
    """Returns a zip of two pictures, whose first entry is named broken.png."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("broken.png", picture(1), zipfile.ZIP_LZMA)
        archive.writestr("fine.png", picture(2))
    return bytearray(stream.getvalue())


def test_a_damaged_entry_is_left_out_alone_however_it_is_compressed(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", two_pictures()
    at = data.index(b"broken.png") + len(b"broken.png") + 9  # behind LZMA's own heading
    data[at : at + 20] = b"\xff" * 20
    path.write_bytes(data)
    pack = packed(ZipFile(path), tmp_path)
    assert (pack.info.num_images, [r.file for r in read_rejected(pack.folder)]) == (1, ["broken.png"])


def test_a_zip_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", two_pictures()
    data[data.index(b"PK\1\2") + 6] = 99  # the version that reading it needs: 9.9
    path.write_bytes(data)
    assert code_of(ZipFile(path), tmp_path) == "not_a_zip"


def test_a_zip_with_a_name_that_is_not_utf_8_as_declared_is_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", two_pictures().replace(b"fine.png", b"f\xffne.png")
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.rindex(mark) + flags + 1] |= 0x08  # the name is UTF-8
    path.write_bytes(data)
    assert code_of(ZipFile(path), tmp_path) == "not_a_zip"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_names_that_no_folder_could_have_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(("twice.png", "twice.png", "a:b.png", "C:/boot.png")):
            archive.writestr(name, picture(i))
        nameless = zipfile.ZipInfo("x")
        nameless.filename = ""
        archive.writestr(nameless, picture(5))
    pack = packed(ZipFile(path), tmp_path)
    assert pack.info.num_images == 2
    found = {r.file: (r.code, r.reason) for r in read_rejected(pack.folder)}
    assert {name: code for name, (code, _) in found.items()} == {
        "twice.png": "unreadable",
        "": "unreadable",
        "C:/boot.png": "unsafe_path",
    }


def test_a_link_that_leads_nowhere_and_a_name_of_any_bytes_are_reported(tmp_path: Path) -> None:
    source = as_folder(tmp_path, {"a.png": picture(1), "empty.png": b""})
    (source.path / "gone.png").symlink_to(tmp_path / "nothing")
    (source.path / "round.png").symlink_to("and_round.png")
    (source.path / "and_round.png").symlink_to("round.png")
    os.mkfifo(source.path / "pipe.png")
    Path(os.fsdecode(bytes(source.path) + b"/b\xff.png")).write_bytes(b"")
    pack = packed(source, tmp_path)
    names = {r.file for r in read_rejected(pack.folder)}
    assert names == {"empty.png", "gone.png", "round.png", "and_round.png", "pipe.png", os.fsdecode(b"b\xff.png")}
    lines = (pack.folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["file"] for line in lines} == names


def test_a_message_is_utf_8_for_any_file_name(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    Path(os.fsdecode(bytes(folder) + b"/b\xff.png")).write_bytes(b"no picture")
    for refuse in (lambda: packed(ImageFolder(folder), tmp_path), lambda: check_folder(folder, Limits())):
        with pytest.raises(DatasetError, match="udcff") as error:
            refuse()
        error.value.message.encode()


def test_entries_that_lead_out_of_a_zip_are_refused_and_nothing_is_written_there(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    names = ["../evil.png", "/tmp/evil.png", "a/../../evil.png", "C:\\evil.png", "..\\evil.png"]
    source = as_zip(inside, {"good.png": picture(1), **dict.fromkeys(names, picture(2))})
    with zipfile.ZipFile(source.path, "a") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    pack = packed(source, inside)
    assert pack.info.num_images == 1
    assert [r.code for r in read_rejected(pack.folder)] == ["unsafe_path"] * 6
    assert os.listdir(tmp_path) == ["inside"]


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture(1))
        archive.writestr("zeros.bmp", bytes(2**22))
        for entry in archive.infolist()[1:]:
            entry.file_size = 2**31  # The check uses the sizes that the directory declares.
    assert code_of(ZipFile(path), tmp_path) == "zip_bomb"


def test_an_entry_with_more_than_it_declares_is_left_out_alone(tmp_path: Path) -> None:
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture(1))
        archive.writestr("b.bmp", bytes(2**20))
        archive.infolist()[1].file_size = 100
    pack = packed(ZipFile(path), tmp_path)
    assert (pack.info.num_images, pack.info.num_rejected) == (1, 1)


def test_a_zip_of_too_many_entries_is_refused_by_its_directory(tmp_path: Path) -> None:
    source = as_zip(tmp_path, {f"{i}.txt": b"" for i in range(3000)})
    assert code_of(source, tmp_path, limits=Limits(max_files=100)) == "too_many_files"


@pytest.mark.parametrize("place", [0, 150, 199, None])
def test_a_zip_that_may_contain_a_picture_passes(tmp_path: Path, place: int | None) -> None:
    """One or none of two hundred files with a picture's suffix is a picture, and only some of them are read."""
    path, buffer = tmp_path / "a.zip", io.BytesIO()
    Image.new("L", (9, 8)).save(buffer, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(200):
            archive.writestr(f"{i}.png", buffer.getvalue() if i == place else b"no picture")
    check_zip(path, Limits())


@pytest.mark.parametrize("name", ["a.jfif", "none", "linked/deep.png"])
def test_a_folder_of_pictures_is_recognised_by_their_content(tmp_path: Path, name: str) -> None:
    real = as_folder(tmp_path / "real", {name: picture(1, format="JPEG")}).path
    folder = tmp_path / "folder"
    folder.mkdir()
    for entry in real.iterdir():
        (folder / entry.name).symlink_to(entry)
    check_folder(folder, Limits())


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    for files in ({}, {"a.png": b"text", "b.txt": b"text"}):
        folder = tmp_path / str(len(files))
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        with pytest.raises(DatasetError) as error:
            check_folder(folder, Limits())
        assert error.value.code == "no_images"


def test_a_zip_whose_pictures_have_no_suffix_passes(tmp_path: Path) -> None:
    path, buffer = tmp_path / "a.zip", io.BytesIO()
    Image.new("RGB", (9, 8)).save(buffer, "WEBP")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "pictures")
        archive.writestr("one", buffer.getvalue())
    check_zip(path, Limits())
