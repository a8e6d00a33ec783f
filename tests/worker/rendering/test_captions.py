"""Captions: the longest beginning that fits, found without measuring every one."""

import itertools

import pytest

from worker.rendering import captions
from worker.rendering.captions import fitted, text_width, wrapped

TEXTS = [
    "", "a", "moves right", "background lighter, moves up and left", "WAVAWAVA To. Te, iiiiiiiiillll",
    "a, b, c , d   e",    "x" * 300, "one two three four five six seven eight nine ten " * 5,
]  # fmt: skip


def cut_letter_by_letter(text: str, size_px: int, width_px: int) -> str:
    if text_width(text, size_px) <= width_px:
        return text
    while text and text_width(text + "…", size_px) > width_px:
        text = text[:-1]
    return text.rstrip(" ,") + "…" if text else ""


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size_px", [12, 17, 32])
def test_a_text_is_cut_where_cutting_letter_by_letter_cuts_it(text: str, size_px: int) -> None:
    for width_px in (0, 5, 14, 40, 90, 91, 92, 200, 1000):
        assert fitted(text, size_px, width_px) == cut_letter_by_letter(text, size_px, width_px)


def test_lines_hold_as_many_words_as_fit() -> None:
    text = "background lighter, object darker, moves up and left"
    lines = wrapped(text, 12, 120, 10)
    assert " ".join(lines) == text
    for line, following in itertools.pairwise(lines):
        assert text_width(line, 12) <= 120 < text_width(f"{line} {following.split()[0]}", 12)
    assert wrapped(text, 12, 120, 1) == [fitted(text, 12, 120)]
    assert wrapped("", 12, 120, 3) == []


@pytest.mark.parametrize("text", ["x" * 300_000, "x y " * 75_000])
def test_a_long_text_is_measured_in_short_pieces(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def width(text: str, size_px: int) -> int:
        measured.append(len(text))
        return len(text) * size_px

    monkeypatch.setattr(captions, "text_width", width)
    assert len(wrapped(text, 10, 400, 3)) <= 3
    assert max(measured) < 200
    assert len(measured) < 1000
