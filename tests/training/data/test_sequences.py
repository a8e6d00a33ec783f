"""Sequences of frames: from the numbers in names, and from the frames of videos."""

from pathlib import Path

import numpy as np
import pytest
from datasets_support import as_folder, as_tar, packed, picture

from training.data.layouts.sequences import numbered_sequences, sequences_of


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["f1.png", "f10.png", "f2.png"], [[0, 0], [0, 2], [0, 1]]),
        (["a/1.png", "a/2.png", "b/1.png", "b/2.png"], [[0, 0], [0, 1], [1, 0], [1, 1]]),
        (["cover.png", "x007_rgb.png", "x007_ir.png", "x008_rgb.png"], [[-1, 0], [0, 0], [-1, 0], [0, 1]]),
        (["2024_1.jpg", "2024_3.jpg", "2025_1.jpg"], [[0, 0], [0, 1], [-1, 0]]),
        (["1.png", "01.png", "0.png"], [[0, 1], [0, 2], [0, 0]]),
        (["1.png", "1.jpg"], None),
        (["cat.png", "dog.png"], None),
        ([f"{'9' * 30}.png", f"{'9' * 29}8.png"], [[0, 1], [0, 0]]),
    ],
)
def test_pictures_whose_last_numbers_alone_differ_are_a_sequence(
    names: list[str], expected: list[list[int]] | None
) -> None:
    found = numbered_sequences(names)
    assert (None if found is None else found.tolist()) == expected


def test_images_without_a_sequence_make_none() -> None:
    assert sequences_of(["", "", ""], [1, 2, 3]) is None
    found = sequences_of(["", "a", "a", ""], [1, 5, 3, 3])
    assert found is not None
    assert found.tolist() == [[-1, 0], [0, 1], [0, 0], [-1, 0]]


def test_a_pack_keeps_the_sequences_of_numbered_pictures(tmp_path: Path) -> None:
    walks = {f"{who}/frame_{k}.png": picture(k) for who in ("ann", "bob") for k in (8, 9, 10)}
    pack = packed(as_tar(tmp_path, walks), tmp_path)
    assert (pack.info.kind, pack.info.has_sequences) == ("classes", True)
    assert pack.sequences is not None
    assert pack.sequences.dtype == np.int32
    assert pack.sequences.tolist() == [[0, 2], [0, 0], [0, 1], [1, 2], [1, 0], [1, 1]]
    flat = packed(
        as_folder(tmp_path / "flat", {"1.png": picture(1), "2.png": picture(2), "x.png": picture(3)}), tmp_path
    )
    assert flat.sequences is not None
    assert flat.sequences.tolist() == [[0, 0], [0, 1], [-1, 0]]
    plain = packed(as_folder(tmp_path / "plain", {"cat.png": picture(1), "dog.png": picture(2)}), tmp_path)
    assert plain.sequences is None
    assert not plain.info.has_sequences
