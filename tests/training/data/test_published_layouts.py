"""3D Chairs and CelebA come with their labels and splits."""

from pathlib import Path

import numpy as np
import pytest
from datasets_support import Files, Make, as_folder, both, code_of, packed, picture

from training.data.datasets import DatasetError, ImageFolder
from training.data.images import Preprocessing, load_image
from training.data.layouts.chairs3d import is_chairs3d
from training.data.layouts.layout import split_by_group
from training.data.packs import Pack, label_warnings, read_rejected


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


def test_a_name_with_a_long_number_is_no_view_of_a_chair(tmp_path: Path) -> None:
    """Python refuses to read a number of more than 4 300 digits."""
    odd = f"rendered_chairs/00abc/renders/image_900_p{'1' * 180}_t000_r096.png"
    pack = packed(as_folder(tmp_path, chairs3d(2) | {odd: picture(1)}), tmp_path)
    assert (pack.info.kind, pack.info.num_images) == ("chairs3d", 12)
    long = f"a/renders/image_000_p{'1' * 5000}_t000_r096.png"
    assert not is_chairs3d([long])


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


def test_celeba_split_by_identity_has_no_person_in_two_splits(tmp_path: Path) -> None:
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


_HTML = b"<!DOCTYPE html><html><body>No download today</body></html>\n"


def reports(pack: Pack) -> dict[str, str]:
    return {r.file: r.reason for r in read_rejected(pack.folder) if r.code == "bad_labels"}


@pytest.mark.parametrize("name", ["identity_CelebA", "list_attr_celeba", "list_eval_partition"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_HTML, "it is not used, since it names 0 of 30 pictures: line 1: expected a heading or a picture's name"),
        (b"", "it is empty"),
        (b"\xff\xfe", "it is empty"),
        (b"000001.jpg x\n", "it is not used, since it names 0 of 30 pictures: line 1: "),
        (b"000031.jpg 1\n", "it is not used, since it names 0 of 30 pictures"),
        (b"\0\x07\xff" * 99, "it is not used, since it names 0 of 30 pictures"),
        (b"9" * 5000 + b"\n000001.jpg 1\n", "it is not used, since it names"),
        (b"x " * 257 + b"\n000001.jpg" + b" x" * 257, "it is not used, since it names 0 of 30 pictures"),
    ],
    ids=["html", "empty", "mark alone", "no number", "other pictures", "bytes", "long number", "many attributes"],
)
def test_a_list_that_cannot_be_used_costs_no_picture(tmp_path: Path, name: str, text: bytes, reason: str) -> None:
    files = celeba()
    place = next(file for file in files if name in file)
    pack = packed(as_folder(tmp_path, files | {place: text}), tmp_path)
    assert pack.info.num_images == 30
    labels = {"identity_CelebA": pack.identities, "list_attr_celeba": pack.factors, "list_eval_partition": pack.split}
    if name != "list_eval_partition":  # Without the partition, pictures are split by their identities.
        assert labels[name] is None
    assert all(array is not None for other, array in labels.items() if other != name)
    assert list(reports(pack)) == [place]
    assert reports(pack)[place].startswith(reason)
    assert label_warnings(pack.folder) == [f"labels in {place}: {reports(pack)[place]}"]


def test_the_good_rows_of_a_cut_list_are_used(tmp_path: Path) -> None:
    files = celeba()
    files["Anno/list_attr_celeba.txt"] = files["Anno/list_attr_celeba.txt"][:-4]
    pack = packed(as_folder(tmp_path, files), tmp_path)
    assert (pack.info.num_images, pack.info.factor_names) == (29, ("Smiling", "Young"))
    assert reports(pack) == {"Anno/list_attr_celeba.txt": "line 32: 1 values for 2 attributes"}
    assert [r.file for r in read_rejected(pack.folder) if r.code == "no_label"] == ["img_align_celeba/000030.jpg"]


def test_a_list_that_ends_after_a_line_is_reported(tmp_path: Path) -> None:
    files = celeba()
    lines = files["Anno/list_attr_celeba.txt"].splitlines(keepends=True)
    files["Anno/list_attr_celeba.txt"] = b"".join(lines[:22])
    pack = packed(as_folder(tmp_path, files), tmp_path)
    assert pack.info.num_images == 20
    assert reports(pack) == {"Anno/list_attr_celeba.txt": "line 22: the list ends after 20 of 30 pictures"}
    files["Anno/list_attr_celeba.txt"] = b"".join(lines[:16])
    pack = packed(as_folder(tmp_path, files), tmp_path)
    assert (pack.info.num_images, pack.factors) == (30, None)


@pytest.mark.parametrize("line", [b"000004.jpg x", b"000004.jpg", b"000004.jpg 3", b"# note"])
def test_a_bad_line_is_named_and_costs_its_own_picture_at_most(tmp_path: Path, line: bytes) -> None:
    files = {f"{i:06}.jpg": picture(i) for i in range(1, 5)}
    files["list_eval_partition.txt"] = b"000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n" + line + b"\n"
    pack = packed(as_folder(tmp_path, files), tmp_path)
    assert pack.split is not None
    assert pack.split.tolist() == [0, 1, 2]
    assert reports(pack)["list_eval_partition.txt"].startswith("line 4: ")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("separator", [" ", ";", ",", "\t"])
def test_lists_of_other_programs_are_read(tmp_path: Path, encoding: str, separator: str) -> None:
    plain = celeba()
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    files = {
        name: data if name.endswith(".jpg") else (mark + text_with(data, separator)).encode(encoding)
        for name, data in plain.items()
    }
    pack = packed(as_folder(tmp_path, files), tmp_path)
    wanted = packed(as_folder(tmp_path / "plain", plain), tmp_path)
    assert (pack.info.digest, reports(pack)) == (wanted.info.digest, {})


def text_with(data: bytes, separator: str) -> str:
    return "\r\n".join(separator.join(line.split()) for line in data.decode().splitlines())


def test_a_split_by_identity_needs_a_good_list(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, celeba() | {"Anno/identity_CelebA.txt": _HTML}).path
    with pytest.raises(DatasetError, match=r"needs identity_CelebA.txt: it is not used.*line 1") as caught:
        packed(ImageFolder(folder, split="identity"), tmp_path)
    assert caught.value.code == "bad_labels"


def test_a_requested_layout_must_be_there(tmp_path: Path) -> None:
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
