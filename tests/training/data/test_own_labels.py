"""Labels of one's own pictures: a folder for each class, and a table beside the pictures."""

from pathlib import Path

import numpy as np
import pytest
from datasets_support import Files, Make, as_folder, both, code_of, packed, picture

from training.data.datasets import ImageFolder
from training.data.layouts import lists
from training.data.layouts.layout import complete_split
from training.data.layouts.quantities import ranks_of
from training.data.packs import Pack, label_warnings, read_rejected


def classes_of(*names: str, each: int = 3) -> Files:
    return {f"{name}/{i}.png": picture(hash((name, i)) % 2**31) for name in names for i in range(each)}


def factors_of(pack: Pack) -> dict[str, list[int]]:
    assert pack.factors is not None
    return dict(zip(pack.info.factor_names, pack.factors.T.tolist(), strict=True))


@both
def test_class_folders_are_a_factor(tmp_path: Path, make: Make) -> None:
    pack = packed(make(tmp_path, classes_of("pets/dog", "pets/cat", "pets/newt") | {"pets/notes.txt": b"?"}), tmp_path)
    assert (pack.info.kind, pack.info.factor_sizes) == ("classes", (3,))
    assert factors_of(pack) == {"class": [0, 0, 0, 1, 1, 1, 2, 2, 2]}
    assert pack.split is None
    assert [(r.file, r.code) for r in read_rejected(pack.folder)] == [("pets/notes.txt", "no_label")]


def test_folders_named_train_val_and_test_are_the_split(tmp_path: Path) -> None:
    files = classes_of("train/cat", "train/dog", "val/cat", "test/cat", "test/dog", each=2)
    pack = packed(as_folder(tmp_path, files), tmp_path)
    assert factors_of(pack) == {"class": [0, 0, 1, 1, 0, 0, 1, 1, 0, 0]}
    assert pack.split is not None
    assert pack.split.tolist() == [2, 2, 2, 2, 0, 0, 0, 0, 1, 1]
    flat = packed(as_folder(tmp_path / "flat", classes_of("Train", "Valid")), tmp_path)
    assert (flat.info.kind, flat.factors) == ("classes", None)
    assert flat.split is not None
    assert flat.split.tolist() == [0, 0, 0, 1, 1, 1]
    whole = packed(ImageFolder(tmp_path / "flat" / "pictures", split="none"), tmp_path)
    assert whole.split is None


def test_a_split_without_validation_gets_one() -> None:
    parts = complete_split([0] * 50 + [2] * 10)
    assert parts is not None
    assert ((parts == 0).sum(), (parts == 1).sum(), (parts == 2).sum()) == (45, 5, 10)
    assert complete_split([2, 2]) is None
    assert complete_split([0, None]) is None


@pytest.mark.parametrize(
    "files",
    [
        classes_of("one"),
        classes_of("a", "b", "c", each=1),
        classes_of("2024/may", "2024/june", "2025") | {"2024/a.png": picture(1)},
        classes_of("a", "b") | {"top.png": picture(1)},
    ],
    ids=["one folder", "a folder a picture", "nested", "a picture above"],
)
def test_other_folders_are_plain_pictures(tmp_path: Path, files: Files) -> None:
    pack = packed(as_folder(tmp_path, files), tmp_path)
    assert (pack.info.kind, pack.info.num_images, pack.factors) == ("images", len(files), None)


def test_class_folders_can_be_asked_for_and_refused(tmp_path: Path) -> None:
    source = as_folder(tmp_path, classes_of("a", "b") | {"top.png": picture(1)})
    pack = packed(ImageFolder(source.path, layout="classes"), tmp_path)
    assert (pack.info.num_images, pack.info.num_rejected) == (6, 1)
    assert packed(ImageFolder(source.path, layout="images"), tmp_path).factors is None
    one = as_folder(tmp_path / "one", classes_of("a")).path
    assert code_of(ImageFolder(one, layout="classes"), tmp_path) == "wrong_layout"
    assert code_of(ImageFolder(source.path, layout="classes", split="identity"), tmp_path) == "bad_labels"


def table(text: str, *, name: str = "labels.csv", count: int = 4, encoding: str = "utf-8") -> Files:
    return {f"{i}.png": picture(i) for i in range(1, count + 1)} | {name: text.encode(encoding)}


@both
def test_a_table_beside_the_pictures_gives_factors(tmp_path: Path, make: Make) -> None:
    text = "file,Colour,size\n3.png,red,10\n1.png,blue,2.5\n4.png,red,2.5\n2.png,Äpfel,-1\n"
    pack = packed(make(tmp_path, table(text)), tmp_path)
    assert (pack.info.kind, pack.info.factor_sizes, pack.info.num_rejected) == ("labels", (3, 3), 0)
    assert factors_of(pack) == {"colour": [0, 2, 1, 1], "size": [1, 0, 2, 1]}
    assert pack.split is None


@pytest.mark.parametrize(
    "text",
    [
        "1.png;1,5\n2.png;0,5\n3.png;1,5\n4.png;2\n",
        "1,1.5\n2,.5\n3,1.5\n4,2\n",
        "label\tpath\n1.5\t.\\1.png\n0.5\t2.PNG\n1.5\t./3.png\n2\t4.jpg\n",
    ],
    ids=["semicolons", "names without suffix", "tabs, another column, backslashes"],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_of_other_programs_are_read(tmp_path: Path, text: str, encoding: str) -> None:
    text = text.replace("2.PNG", "2.png").replace("4.jpg", "4")
    pack = packed(as_folder(tmp_path, table(text, encoding=encoding)), tmp_path)
    assert factors_of(pack) == {"label": [1, 0, 1, 2]}
    assert label_warnings(pack.folder) == []


def test_split_and_identity_are_no_factors(tmp_path: Path) -> None:
    text = "image,split,person\n1.png,train,Ada\n2.png,val,Ada\n3.png,test,Grace\n4.png,0,Mary\n"
    source = as_folder(tmp_path, table(text))
    pack = packed(source, tmp_path)
    assert (pack.factors, pack.info.num_identities) == (None, 3)
    assert pack.split is not None
    assert pack.split.tolist() == [0, 1, 2, 0]
    by_person = packed(ImageFolder(source.path, split="identity"), tmp_path)
    assert by_person.split is not None
    assert by_person.split[0] == by_person.split[1]
    plain = as_folder(tmp_path / "plain", table("1.png,a\n2.png,b\n3.png,a\n4.png,b\n")).path
    assert code_of(ImageFolder(plain, split="identity"), tmp_path) == "bad_labels"


def test_the_tables_of_hugging_face_lie_in_each_folder(tmp_path: Path) -> None:
    files = classes_of("train", "test", each=2)
    files |= {f"{part}/metadata.csv": b"file_name,digit\n0.png,7\n1.png,9\n" for part in ("train", "test")}
    pack = packed(as_folder(tmp_path, files), tmp_path)
    assert (pack.info.num_images, pack.info.num_rejected, factors_of(pack)) == (4, 0, {"digit": [0, 1, 0, 1]})


def test_bad_lines_are_named_and_good_ones_used(tmp_path: Path) -> None:
    text = "file,size\n1.png,1\n2.png,2\n3.png,\n9.png,4\n4.png,3,3\n"
    pack = packed(as_folder(tmp_path, table(text)), tmp_path)
    assert factors_of(pack) == {"size": [0, 1]}
    assert label_warnings(pack.folder) == ["labels in labels.csv: line 4: no value of size; and 2 more lines"]
    assert {r.file for r in read_rejected(pack.folder) if r.code == "no_label"} == {"3.png", "4.png"}


def test_an_empty_cell_is_a_value_among_texts_and_missing_among_numbers(tmp_path: Path) -> None:
    """A program that draws faces leaves the glasses of a face without glasses empty."""
    text = "file,glasses,age,hat\n1.png,,30,\n2.png,round,,\n3.png,square,20,\n4.png,,20,\n"
    pack = packed(as_folder(tmp_path, table(text)), tmp_path)
    assert factors_of(pack) == {"glasses": [0, 1, 0], "age": [1, 0, 0], "hat": [0, 0, 0]}
    assert label_warnings(pack.folder) == ["labels in labels.csv: line 3: no value of age"]


@pytest.mark.parametrize("column", ["identity", "split"])
def test_an_empty_identity_or_split_is_missing(tmp_path: Path, column: str) -> None:
    text = f"file,size,{column}\n1.png,a,0\n2.png,b,\n3.png,a,train\n4.png,b,2\n"
    pack = packed(as_folder(tmp_path, table(text)), tmp_path)
    assert factors_of(pack) == {"size": [0, 0, 1]}
    assert label_warnings(pack.folder) == [f"labels in labels.csv: line 3: no value of {column}"]


@pytest.mark.parametrize(
    "text",
    ["", "\0\7", "file,size\n1.png,1\n", "<html>", 'file,size\n"1.png,1\n' + "x" * 200_000, ",,\n , ,\n"],
    ids=range(6),
)
def test_a_table_that_cannot_be_used_costs_no_picture(tmp_path: Path, text: str) -> None:
    pack = packed(as_folder(tmp_path, table(text)), tmp_path)
    assert (pack.info.num_images, pack.factors) == (4, None)
    assert [r.file for r in read_rejected(pack.folder)] == ["labels.csv"]


@pytest.mark.parametrize("tail", ["5.png,5\n" * 20, "6.png," + "6," * 2**19], ids=["lines", "cells"])
def test_a_table_of_too_many_lines_or_cells_is_used_in_no_part(
    tmp_path: Path, tail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MOST_LINES", 20)
    pack = packed(as_folder(tmp_path, table("file,size\n1.png,1\n2.png,2\n3.png,3\n4.png,4\n" + tail)), tmp_path)
    assert (pack.info.num_images, pack.factors) == (4, None)
    (warning,) = label_warnings(pack.folder)
    assert "it has more than 20 lines" in warning or "line 6 has more than 1048576 characters" in warning


def test_a_column_of_descriptions_is_no_factor(tmp_path: Path) -> None:
    rows = "".join(f"{i}.png,{i % 2},a picture of number {i}\n" for i in range(1, 21))
    pack = packed(as_folder(tmp_path, table("file,odd,caption\n" + rows, count=20)), tmp_path)
    assert pack.info.factor_names == ("odd",)
    assert label_warnings(pack.folder) == [
        "labels in labels.csv: column caption: 20 different texts for 20 pictures; it is not a factor"
    ]


def test_numbers_with_fractions_keep_their_values(tmp_path: Path) -> None:
    """Ranks are classes for every program that wants classes; regressors want the numbers themselves."""
    text = "file,colour,size,x\n1.png,red,2,0.5\n2.png,blue,7,100\n3.png,red,2,-3\n4.png,red,1,1\n"
    pack = packed(as_folder(tmp_path, table(text)), tmp_path)
    assert factors_of(pack) == {"colour": [1, 0, 1, 1], "size": [1, 2, 1, 0], "x": [1, 3, 0, 2]}
    assert pack.values is not None
    np.testing.assert_array_equal(pack.values[:, 2], [0.5, 100, -3, 1])
    assert np.isnan(pack.values[:, :2]).all()


def test_whole_numbers_are_classes_without_values(tmp_path: Path) -> None:
    pack = packed(as_folder(tmp_path, table("file,size\n1.png,1\n2.png,2\n3.png,2.0\n4.png,3\n")), tmp_path)
    assert (factors_of(pack), pack.values) == ({"size": [0, 1, 1, 2]}, None)


def test_numbers_are_ranked_and_may_be_as_many_as_classes() -> None:
    numbers = np.random.default_rng(0).permutation(65_536) / 7
    assert (np.diff(ranks_of(numbers)[np.argsort(numbers)].astype(int)) == 1).all()
    with pytest.raises(ValueError, match="more than 65536 values"):
        ranks_of(np.arange(65_537.0))
