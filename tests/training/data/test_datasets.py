"""Any set of images becomes a pack, with its labels and splits; what cannot be read is named, and no more."""

import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.data import dsprites
from training.data.datasets import (
    ArrayFile,
    BuiltIn,
    DatasetError,
    ImageFolder,
    Limits,
    Source,
    ZipFile,
    fingerprint,
    num_channels_of,
    pack_dataset,
    source_for,
)
from training.data.images import FORMATS, Preprocessing, load_image, looks_like_picture
from training.data.layouts import split_by_group
from training.data.packs import Pack, PackError, open_pack, read_rejected
from training.data.picture_files import check_folder, check_zip

GREY = Preprocessing(image_size=16, num_channels=1)
RGB = Preprocessing(image_size=16, num_channels=3)


def picture(seed: int, size: tuple[int, int] = (16, 16), format: str = "PNG") -> bytes:
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


Make = Callable[[Path, Files], ImageFolder | ZipFile]
both = pytest.mark.parametrize("make", [as_folder, as_zip], ids=["folder", "zip"])


def packed(source: Source, root: Path, preprocessing: Preprocessing = RGB, **options: Any) -> Pack:
    pack_dataset(source, root / "pack", preprocessing, **options)
    return open_pack(
        root / "pack",
        preprocessing=preprocessing,
        source_fingerprint=fingerprint(source, options.get("limits")),
        verify=True,
    )


def code_of(source: Source, root: Path, **options: Any) -> str:
    """The code with which packing fails; it must leave nothing behind."""
    before = sorted(os.listdir(root))
    with pytest.raises(DatasetError) as caught:
        pack_dataset(source, root / "pack", RGB, **options)
    assert sorted(os.listdir(root)) == before
    assert caught.value.message
    return caught.value.code


# Colours


def grey(value: int, format: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new("L", (16, 16), value).convert(mode).save(file, format)
    return file.getvalue()


@both
def test_colours_are_seen_in_some_pictures_from_all_over_a_set(tmp_path: Path, make: Make) -> None:
    files = {f"{i:03}.jpg": grey(5 * i, "JPEG") for i in range(48)}
    files |= {"broken.png": b"none", "notes.txt": b"none", "a.png": grey(9, "PNG", "LA")}
    assert num_channels_of(make(tmp_path, files)) == 1
    (tmp_path / "more").mkdir()
    assert num_channels_of(make(tmp_path / "more", files | {f"{i:03}.jpg": picture(i) for i in range(24, 36)})) == 3
    (tmp_path / "none").mkdir()
    assert num_channels_of(make(tmp_path / "none", {"broken.png": b"none"})) == 1


def test_colours_are_seen_in_the_pictures_as_packing_reads_them(tmp_path: Path) -> None:
    source = as_folder(tmp_path, {"a.png": picture(1)})
    assert num_channels_of(source, Limits(max_pixels=100)) == 1
    with pytest.raises(DatasetError, match="no such folder"):
        num_channels_of(ImageFolder(tmp_path / "nowhere"))


@pytest.mark.parametrize("scale", [1, 255, 65535])
@pytest.mark.parametrize("channels_first", [False, True])
def test_colours_are_seen_in_an_array(tmp_path: Path, scale: int, channels_first: bool) -> None:
    pixels = np.random.default_rng(0).random((6, 16, 16, 3))
    same = np.repeat(pixels[..., :1], 3, axis=3)
    of = {}
    for name, values in {"colour": pixels, "same": same, "grey": pixels[..., 0], "one": pixels[..., :1]}.items():
        values = values * scale if scale == 1 else (values * scale).astype(np.uint8 if scale == 255 else np.uint16)
        if channels_first and values.ndim == 4:
            values = values.transpose(0, 3, 1, 2)
        np.save(tmp_path / f"{name}.npy", np.ascontiguousarray(values))
        of[name] = num_channels_of(source_for(tmp_path / f"{name}.npy"))
    assert of == {"colour": 3, "same": 1, "grey": 1, "one": 1}


@pytest.mark.parametrize(("name", "num_channels"), [("dsprites", 1), ("dsprites_color", 3), ("chairs", 3)])
def test_built_in_sets_say_whether_they_have_colours(tmp_path: Path, name: str, num_channels: int) -> None:
    source = BuiltIn(name, max_images=20)
    assert num_channels_of(source) == num_channels
    pixels = packed(source, tmp_path).images
    assert bool(np.ptp(pixels.astype(int), axis=3).max()) == (num_channels == 3)


# Pictures in folders and zips


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


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    for source in (ImageFolder(tmp_path / "x"), ZipFile(tmp_path / "x.zip"), ArrayFile(tmp_path / "x.npy")):
        assert code_of(source, tmp_path) == "not_found"


@both
def test_limits_on_files_bytes_and_pixels(tmp_path: Path, make: Make) -> None:
    source = make(tmp_path, {"a.png": picture(1), "big.png": picture(2, (90, 90))})
    assert code_of(source, tmp_path, limits=Limits(max_files=1)) == "too_many_files"
    for limits in (Limits(max_pixels=1000), Limits(max_file_bytes=5000)):
        pack = packed(source, tmp_path, limits=limits)
        (rejected,) = read_rejected(pack.folder)
        assert (rejected.file, rejected.code) == ("big.png", "image_too_large")


def test_a_callback_that_raises_stops_the_packing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        packed(as_folder(tmp_path, {"a.png": picture(1)}), tmp_path, on_progress=stop)
    assert os.listdir(tmp_path) == ["pictures"]


def test_links_in_a_folder_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    source = as_folder(tmp_path, {"a/1.png": picture(1)})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.png").write_bytes(picture(2))
    (source.path / "linked").symlink_to(tmp_path / "elsewhere")
    (source.path / "a" / "loop").symlink_to(source.path)
    (source.path / "a" / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    assert packed(source, tmp_path).info.num_images == 2


def test_a_changed_folder_makes_its_pack_stale(tmp_path: Path) -> None:
    source = as_folder(tmp_path, {"a.png": picture(1)})
    packed(source, tmp_path)
    (source.path / "b.png").write_bytes(picture(2))
    with pytest.raises(PackError, match="stale"):
        open_pack(tmp_path / "pack", source_fingerprint=fingerprint(source))


# Hostile and broken zips


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    for data in (b"", b"PK\x03\x04 and then nothing", picture(1), b"PK\x05\x06" + b"\xff" * 18):
        path.write_bytes(data)
        assert code_of(ZipFile(path), tmp_path) in {"not_a_zip", "too_many_files"}


def test_a_truncated_zip_is_refused(tmp_path: Path) -> None:
    source = as_zip(tmp_path, {"a.png": picture(1), "b.png": picture(2)})
    source.path.write_bytes(source.path.read_bytes()[:-30])
    assert code_of(source, tmp_path) == "not_a_zip"


def two_pictures() -> bytearray:
    """A zip of them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("broken.png", picture(1), zipfile.ZIP_LZMA)
        archive.writestr("fine.png", picture(2))
    return bytearray(stream.getvalue())


def test_a_damaged_entry_costs_itself_alone_however_it_is_compressed(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", two_pictures()
    at = data.index(b"broken.png") + len(b"broken.png") + 9  # behind LZMA's own heading
    data[at : at + 20] = b"\xff" * 20
    path.write_bytes(data)
    pack = packed(ZipFile(path), tmp_path)
    assert (pack.info.num_images, [r.file for r in read_rejected(pack.folder)]) == (1, ["broken.png"])


def test_a_zip_of_a_version_that_is_not_known_yet_is_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", two_pictures()
    data[data.index(b"PK\1\2") + 6] = 99  # the version that reading it needs: 9.9
    path.write_bytes(data)
    assert code_of(ZipFile(path), tmp_path) == "not_a_zip"


def test_a_name_that_is_said_to_be_utf_8_and_is_not_is_no_zip(tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", two_pictures().replace(b"fine.png", b"f\xffne.png")
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.rindex(mark) + flags + 1] |= 0x08  # the name is UTF-8
    path.write_bytes(data)
    assert code_of(ZipFile(path), tmp_path) == "not_a_zip"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_of_a_zip_that_no_folder_could_have(tmp_path: Path) -> None:
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


def test_a_message_is_utf_8_whatever_a_file_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    Path(os.fsdecode(bytes(folder) + b"/b\xff.png")).write_bytes(b"no picture")
    for refuse in (lambda: packed(ImageFolder(folder), tmp_path), lambda: check_folder(folder, Limits())):
        with pytest.raises(DatasetError, match="udcff") as error:
            refuse()
        error.value.message.encode()


def test_entries_that_lead_out_are_refused_and_nothing_is_written_there(tmp_path: Path) -> None:
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
            entry.file_size = 2**31  # What the directory declares is what is judged.
    assert code_of(ZipFile(path), tmp_path) == "zip_bomb"


def test_an_entry_that_holds_more_than_it_declares_costs_itself_alone(tmp_path: Path) -> None:
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


# Published layouts


def chairs3d(num_models: int = 10) -> Files:
    return {
        f"rendered_chairs/{model:02}abc/renders/image_{k:03}_p{p:03}_t{t:03}_r096.png": picture(1000 * model + k)
        for model in range(num_models)
        for k, (t, p) in enumerate((t, p) for p in (20, 30) for t in (0, 11, 23))
    } | {"rendered_chairs/all_chair_names.mat": b"not a picture"}


@both
def test_3d_chairs(tmp_path: Path, make: Make) -> None:
    pack = packed(make(tmp_path, chairs3d()), tmp_path)
    info = pack.info
    assert (info.kind, info.num_images, info.num_identities) == ("chairs3d", 60, 10)
    assert (info.factor_names, info.factor_sizes) == (("elevation", "azimuth"), (2, 3))
    assert pack.factors is not None
    assert pack.factors[:6].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert pack.split is not None
    assert pack.identities is not None
    for model in range(10):
        assert len(set(pack.split[pack.identities == model].tolist())) == 1
    assert info.split_sizes == {"train": 48, "validation": 6, "test": 6}


def test_an_unreadable_view_drops_its_labels_too(tmp_path: Path) -> None:
    files = chairs3d(3)
    broken = "rendered_chairs/00abc/renders/image_001_p020_t011_r096.png"
    pack = packed(as_folder(tmp_path, files | {broken: b"broken"}), tmp_path)
    assert pack.factors is not None
    assert pack.factors[:3].tolist() == [[0, 0], [0, 2], [1, 0]]
    assert [r.file for r in read_rejected(pack.folder)] == [broken]


def celeba(*, lists: bool = True) -> Files:
    names = [f"{i:06}.jpg" for i in range(1, 31)]
    files = {f"img_align_celeba/{n}": picture(i, (178, 218), "JPEG") for i, n in enumerate(names)}
    if lists:
        people = "".join(f"{n} {i // 3 + 1}\n" for i, n in enumerate(names))
        rows = "".join(f"{n}  {'-1' if i % 2 else ' 1'} {'-1' if i % 5 else ' 1'}\n" for i, n in enumerate(names))
        parts = "".join(f"{n} {min(2, i // 10)}\n" for i, n in enumerate(names))
        files |= {
            "Anno/identity_CelebA.txt": people.encode(),
            "Anno/list_attr_celeba.txt": f"30\nSmiling Young\n{rows}".encode(),
            "Eval/list_eval_partition.txt": parts.encode(),
        }
    return files


@both
def test_celeba_with_its_official_split(tmp_path: Path, make: Make) -> None:
    pack = packed(make(tmp_path, celeba()), tmp_path, Preprocessing(image_size=16, num_channels=3, crop_size=148))
    info = pack.info
    assert (info.kind, info.num_images, info.num_identities, info.num_rejected) == ("celeba", 30, 10, 0)
    assert info.split_sizes == {"train": 10, "validation": 10, "test": 10}
    assert (info.factor_names, info.factor_sizes, info.full_grid) == (("Smiling", "Young"), (2, 2), False)
    assert pack.factors is not None
    assert pack.factors[:6].tolist() == [[1, 1], [0, 0], [1, 0], [0, 0], [1, 0], [0, 1]]
    assert info.preprocessing.crop_size == 148
    first = load_image(celeba()["img_align_celeba/000001.jpg"], info.preprocessing)
    assert np.array_equal(pack.images[0], first)


def test_celeba_split_by_identity_shows_nobody_twice(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, celeba()).path
    pack = packed(ImageFolder(folder, split="identity"), tmp_path)
    assert pack.split is not None
    assert pack.identities is not None
    groups = [set(pack.identities[pack.indices(s)].tolist()) for s in ("train", "validation", "test")]
    assert all(groups)
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10


def test_celeba_without_its_lists_has_no_labels(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, celeba(lists=False)).path
    pack = packed(ImageFolder(folder), tmp_path)
    assert (pack.info.kind, pack.factors, pack.split, pack.identities) == ("celeba", None, None, None)
    assert code_of(ImageFolder(folder, split="identity"), tmp_path) == "bad_labels"


def test_celeba_lists_as_csv(tmp_path: Path) -> None:
    files = {f"img_align_celeba/{i:06}.jpg": picture(i) for i in range(1, 5)}
    files["list_attr_celeba.csv"] = b"image_id,Smiling,Young\n" + b"".join(b"%06d.jpg,1,-1\n" % i for i in range(1, 5))
    files["list_eval_partition.csv"] = b"image_id,partition\n" + b"".join(
        b"%06d.jpg,%d\n" % (i, i % 3) for i in range(1, 5)
    )
    pack = packed(as_folder(tmp_path, files), tmp_path)
    assert pack.info.factor_names == ("Smiling", "Young")
    assert pack.split is not None
    assert pack.split.tolist() == [1, 2, 0, 1]


def test_a_picture_that_the_lists_leave_out_is_rejected(tmp_path: Path) -> None:
    files = celeba()
    files["img_align_celeba/000099.jpg"] = picture(99)
    pack = packed(as_folder(tmp_path, files), tmp_path)
    assert pack.info.num_images == 30
    assert [(r.file, r.code) for r in read_rejected(pack.folder)] == [("img_align_celeba/000099.jpg", "no_label")]


@pytest.mark.parametrize("text", [b"000001.jpg x\n", b"\xff\xfe", b"000001.jpg 0\n000002.jpg 0 1\n", b"000001.jpg 7\n"])
def test_broken_lists_are_refused(tmp_path: Path, text: bytes) -> None:
    files = {"000001.jpg": picture(1), "000002.jpg": picture(2), "list_eval_partition.txt": text}
    assert code_of(as_folder(tmp_path, files), tmp_path) == "bad_labels"


def test_a_layout_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {"a.png": picture(1)}).path
    for layout in ("chairs3d", "celeba"):
        assert code_of(ImageFolder(folder, layout=layout), tmp_path) == "wrong_layout"
    with pytest.raises(DatasetError):
        ImageFolder(folder, layout="imagenet")
    with pytest.raises(DatasetError):
        ImageFolder(folder, split="random")
    celeba_folder = as_folder(tmp_path / "two", celeba()).path
    assert packed(ImageFolder(celeba_folder, layout="images"), tmp_path).info.kind == "images"


def test_plain_pictures_have_no_identities_to_split_by(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {"a.png": picture(1)}).path
    assert code_of(ImageFolder(folder, split="identity"), tmp_path) == "bad_labels"


def test_a_group_keeps_its_place_whatever_the_order_of_the_files() -> None:
    groups = [f"model-{i % 40}" for i in range(400)]
    forwards = dict(zip(groups, split_by_group(groups).tolist(), strict=True))
    backwards = dict(zip(groups[::-1], split_by_group(groups[::-1]).tolist(), strict=True))
    assert forwards == backwards
    assert sorted(forwards.values()).count(0) == 32
    assert split_by_group(["one", "two"]).tolist() == [0, 0]


# Arrays


def dsprites_npz(path: Path, classes: NDArray[Any]) -> Path:
    images = dsprites.render(classes) // 255
    with_colour = np.concatenate([np.zeros((len(classes), 1), np.int64), classes], axis=1)
    metadata = np.array({"date": "april 2017"}, dtype=object)
    np.savez_compressed(
        path,
        metadata=metadata,
        imgs=images,
        latents_classes=with_colour,
        latents_values=with_colour.astype(float),
        allow_pickle=True,
    )
    return path


def test_the_original_dsprites_file_is_read_without_unpickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = np.stack([np.arange(40) % n for n in dsprites.FACTOR_SIZES], axis=1)
    path = dsprites_npz(tmp_path / "dsprites.npz", classes)

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    pack = packed(ArrayFile(path), tmp_path, Preprocessing(image_size=64, num_channels=1))
    assert (pack.info.kind, pack.info.factor_names) == ("dsprites", dsprites.FACTOR_NAMES)
    assert pack.info.factor_sizes == dsprites.FACTOR_SIZES
    assert pack.factors is not None
    assert np.array_equal(pack.factors, classes)
    assert np.array_equal(pack.images[..., 0], dsprites.render(classes))


def shapes3d_h5(path: Path, n: int = 30) -> Path:
    grid = np.stack(np.unravel_index(np.arange(n) * 15999 % 480000, (10, 10, 10, 8, 4, 15)), axis=1)
    values = grid * [0.1, 0.1, 0.1, 0.07142857, 1, 4.2857142] + [0, 0, 0, 0.75, 0, -30]
    with h5py.File(path, "w") as file:
        images = np.random.default_rng(0).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)
        file.create_dataset("images", data=images, chunks=(7, 64, 64, 3), compression="gzip")
        file.create_dataset("labels", data=values)
    return path


def test_shapes3d(tmp_path: Path) -> None:
    path = shapes3d_h5(tmp_path / "3dshapes.h5")
    pack = packed(ArrayFile(path), tmp_path, Preprocessing(image_size=64, num_channels=3))
    assert pack.info.kind == "shapes3d"
    assert pack.info.factor_sizes == (10, 10, 10, 8, 4, 15)
    with h5py.File(path) as file:
        assert np.array_equal(pack.images, file["images"][...])
        assert pack.factors is not None
        for column, values in zip(pack.factors.T, file["labels"][...].T, strict=True):
            order = np.argsort(column, kind="stable")
            assert (np.diff(values[order]) >= 0).all()
            assert len(set(column.tolist())) == len(set(values.tolist()))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.uint8, 255), (np.float32, 1), (np.float64, 255), (np.uint16, 65535), (np.int64, 255)]
)
def test_pixels_of_any_type(tmp_path: Path, suffix: str, dtype: Any, scale: float) -> None:
    expected = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    expected[0, 0, 0, 0] = 255
    values = (expected.astype(np.float64) * (scale / 255)).astype(dtype)
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, values)
    else:
        np.savez_compressed(path, images=values)
    assert np.array_equal(packed(ArrayFile(path), tmp_path).images, expected)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32])
def test_zeros_and_ones_are_black_and_white(tmp_path: Path, dtype: Any) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (9, 16, 16))
    np.save(tmp_path / "x.npy", mask.astype(dtype))
    assert np.array_equal(packed(ArrayFile(tmp_path / "x.npy"), tmp_path, GREY).images[..., 0], mask * 255)


@pytest.mark.parametrize(
    "shape", [(5, 16, 16), (5, 16, 16, 1), (5, 1, 16, 16), (5, 3, 20, 24), (5, 20, 24, 3), (5, 9, 9, 4)]
)
@pytest.mark.parametrize("preprocessing", [GREY, RGB], ids=["grey", "rgb"])
def test_pixels_of_any_shape(tmp_path: Path, shape: tuple[int, ...], preprocessing: Preprocessing) -> None:
    np.save(tmp_path / "x.npy", np.full(shape, 200, np.uint8))
    pack = packed(ArrayFile(tmp_path / "x.npy"), tmp_path, preprocessing)
    assert pack.images.shape == (5, 16, 16, preprocessing.num_channels)
    opaque = 4 not in shape
    assert (pack.images == (200 if opaque else 212)).all()


def test_labels_beside_the_pixels_become_factors(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=np.zeros((6, 16, 16), np.uint8), y_train=np.array([3, 0, 1, 2, 3, 3]))
    pack = packed(ArrayFile(tmp_path / "x.npz"), tmp_path, GREY)
    assert (pack.info.factor_names, pack.info.factor_sizes) == (("label",), (4,))
    assert pack.factors is not None
    assert pack.factors[:, 0].tolist() == [3, 0, 1, 2, 3, 3]


def _objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}] * 3, dtype=object), allow_pickle=True)


def _saved(values: NDArray[Any]) -> Callable[[Path], None]:
    return lambda path: np.save(path, values)


def _cut(path: Path) -> None:
    np.save(path, np.zeros((50, 16, 16), np.uint8))
    os.truncate(path, 5000)


def _damaged_header(path: Path) -> None:
    np.save(path, np.zeros((2, 16, 16), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"}", b" "))


def _declares_too_much(path: Path) -> None:
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**5, 10**5)}
        np.lib.format.write_array_header_1_0(file, header)


def _declares_a_grid_that_is_too_large(path: Path) -> None:
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1000, 1000, 1000, 64, 64, 3)}
        np.lib.format.write_array_header_1_0(file, header)


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (_objects, "unsupported_array"),
        (_saved(np.full((3, 16, 16), np.nan)), "unsupported_array"),
        (_saved(np.full((3, 16, 16), -1.0)), "unsupported_array"),
        (_saved(np.full((3, 16, 16), 1e9)), "unsupported_array"),
        (_saved(np.full((3, 16, 16), 1j)), "unsupported_array"),
        (_saved(np.array(["a", "b"])), "unsupported_array"),
        (_saved(np.asfortranarray(np.random.default_rng(0).random((3, 16, 16)))), "unsupported_array"),
        (_saved(np.zeros((3, 16, 16, 2))), "unsupported_array"),
        (_saved(np.zeros(7)), "unsupported_array"),
        (_saved(np.zeros((0, 16, 16))), "no_images"),
        (_cut, "not_an_archive"),
        (lambda path: path.write_bytes(b"hello"), "not_an_archive"),
        (_declares_too_much, "unsupported_array"),
        (_declares_a_grid_that_is_too_large, "too_many_files"),
        (_damaged_header, "not_an_archive"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(tmp_path: Path, write: Callable[[Path], Any], code: str) -> None:
    write(tmp_path / "x.npy")
    assert code_of(ArrayFile(tmp_path / "x.npy"), tmp_path) == code


def test_an_hdf5_file_cannot_name_other_files(tmp_path: Path) -> None:
    secret = shapes3d_h5(tmp_path / "secret.h5")
    raw = tmp_path / "raw.bin"
    raw.write_bytes(bytes(3 * 16 * 16))
    for kind in ("external link", "soft link", "external storage"):
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            if kind == "external link":
                file["images"] = h5py.ExternalLink(str(secret), "/images")
            elif kind == "soft link":
                file["images"] = h5py.SoftLink("/nowhere")
            else:
                file.create_dataset("images", (3, 16, 16), np.uint8, external=[(str(raw), 0, 3 * 16 * 16)])
        assert code_of(ArrayFile(path), tmp_path) == "unsupported_array"


def test_a_broken_hdf5_file_is_refused(tmp_path: Path) -> None:
    path = shapes3d_h5(tmp_path / "x.h5")
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"\x89HDF\r\n\x1a\n" + bytes(100)):
        path.write_bytes(broken)
        assert code_of(ArrayFile(path), tmp_path) == "not_an_archive"


# Built-in sets


@pytest.mark.parametrize("name", ["dsprites", "dsprites_color", "chairs"])
def test_built_in_sets_know_their_factors(tmp_path: Path, name: str) -> None:
    preprocessing = Preprocessing(image_size=32, num_channels=1 if name == "dsprites" else 3)
    seen: list[tuple[int, int]] = []
    source = BuiltIn(name, max_images=60)
    pack = packed(source, tmp_path, preprocessing, on_progress=lambda *p: seen.append(p))
    info = pack.info
    assert (info.kind, info.num_images, info.full_grid) == ("builtin", 60, False)
    assert pack.factors is not None
    assert pack.factors.shape == (60, len(info.factor_names))
    assert (pack.factors.max(axis=0) < np.array(info.factor_sizes)).all()
    assert len(np.unique(pack.factors, axis=0)) == 60
    assert all(len(np.unique(image)) > 1 for image in pack.images)
    assert seen[-1] == (60, 60)


def test_coloured_dsprites_have_one_bright_colour_each_and_keep_it(tmp_path: Path) -> None:
    pack = packed(BuiltIn("dsprites_color", max_images=50), tmp_path, Preprocessing(image_size=32, num_channels=3))
    grey = packed(BuiltIn("dsprites", max_images=50), tmp_path / "g", Preprocessing(image_size=32, num_channels=1))
    colours = []
    for image, mask in zip(pack.images, grey.images[..., 0] > 0, strict=True):
        assert (image[~mask] == 0).all()
        (colour,) = np.unique(image[mask], axis=0)
        assert colour.min() >= 127
        colours.append(tuple(colour.tolist()))
    assert len(set(colours)) == 50
    fewer = packed(
        BuiltIn("dsprites_color", max_images=10), tmp_path / "f", Preprocessing(image_size=32, num_channels=3)
    )
    assert np.array_equal(fewer.images, pack.images[::5])


def test_a_whole_grid_is_marked_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (1, 1, 1, 32, 32)
    monkeypatch.setattr(dsprites, "FACTOR_SIZES", sizes)
    pack = packed(BuiltIn("dsprites"), tmp_path, Preprocessing(image_size=16, num_channels=3))
    assert (pack.info.full_grid, pack.info.num_images) == (True, math.prod(sizes))
    assert pack.factors is not None
    assert np.array_equal(pack.images[500, :, :, 1], dsprites.render(pack.factors[500:501], 16)[0])


def test_an_unknown_built_in_set_is_refused() -> None:
    with pytest.raises(DatasetError, match="dsprites"):
        BuiltIn("imagenet")


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage(10**8))
    assert code_of(BuiltIn("dsprites"), tmp_path) == "no_space"


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_a_path_tells_what_kind_of_source_it_is(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {"a.png": picture(1)}).path
    archive = as_zip(tmp_path, {"a.png": picture(1)}).path
    array = tmp_path / "x.npz"
    array.write_bytes(b"")
    assert source_for(folder) == ImageFolder(folder)
    assert source_for(archive, layout="images") == ZipFile(archive, "images")
    assert source_for(array) == ArrayFile(array)
    for path in (tmp_path / "nothing", folder / "a.png"):
        with pytest.raises(DatasetError):
            source_for(path)


def test_the_description_is_json(tmp_path: Path) -> None:
    packed(as_folder(tmp_path, {"a.png": picture(1)}), tmp_path, name="My set")
    data = json.loads((tmp_path / "pack" / "dataset.json").read_text())
    assert (data["name"], data["num_images"], data["image_size"], data["num_channels"]) == ("My set", 1, 16, 3)
    assert data["preprocessing"] == {"image_size": 16, "num_channels": 3, "crop": "center", "crop_size": None}


def test_a_picture_of_every_format_is_known_by_its_first_bytes() -> None:
    for name in FORMATS:
        for mode in ("L", "RGB"):
            buffer = io.BytesIO()
            Image.new(mode, (9, 8)).save(buffer, name)
            assert looks_like_picture(buffer.getvalue()[:32]), name
    for head in (b"", b"P", b"Plain text", b"RIFF\0\0\0\0WAVEfmt ", b"PK\3\4", b"%PDF-1.7", b"\x7fELF"):
        assert not looks_like_picture(head)


@pytest.mark.parametrize("place", [0, 150, 199, None])
def test_a_zip_that_only_packing_can_tell_passes(tmp_path: Path, place: int | None) -> None:
    """Two hundred files called pictures, of which one is, or none: not all are looked at."""
    path, buffer = tmp_path / "a.zip", io.BytesIO()
    Image.new("L", (9, 8)).save(buffer, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(200):
            archive.writestr(f"{i}.png", buffer.getvalue() if i == place else b"no picture")
    check_zip(path, Limits())


@pytest.mark.parametrize("name", ["a.jfif", "none", "linked/deep.png"])
def test_a_folder_of_pictures_is_known_by_what_they_are(tmp_path: Path, name: str) -> None:
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
