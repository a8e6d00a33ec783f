"""3D Chairs and CelebA come with their labels and splits."""

from pathlib import Path

import numpy as np
import pytest
from datasets_support import Files, Make, as_folder, both, code_of, packed, picture

from training.data.datasets import DatasetError, ImageFolder
from training.data.images import Preprocessing, load_image
from training.data.layouts import split_by_group
from training.data.packs import read_rejected


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


@pytest.mark.parametrize("text", [b"000001.jpg x\n", b"\xff\xfe", b"000001.jpg 0\n000002.jpg 0 1\n", b"000001.jpg 7\n"])
def test_broken_lists_are_refused(tmp_path: Path, text: bytes) -> None:
    files = {"000001.jpg": picture(1), "000002.jpg": picture(2), "list_eval_partition.txt": text}
    assert code_of(as_folder(tmp_path, files), tmp_path) == "bad_labels"


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
