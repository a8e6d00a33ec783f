"""Captions: texts fit their places, long ones are measured in few pieces, and numbers distinguish values."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.rendering import captions
from worker.rendering.captions import fitted, number_width, signed, text_width, ticks, wrapped

TEXTS = [
    "", "a", "moves right", "background lighter, moves up and left", "WAVAWAVA To. Te, iiiiiiiiillll",
    "a, b, c , d   e", "x" * 300, "one two three four five six seven eight nine ten " * 5,
]  # fmt: skip
LABELS = ["", "moves right", "gets wider and shorter, moves up and left", "W" * 60, "a " * 30]


@given(
    text=st.one_of(
        st.sampled_from(LABELS),
        st.text(max_size=80),
    ),
    size=st.sampled_from([12, 14, 32]),
    width=st.integers(20, 300),
    lines=st.integers(1, 4),
)
def test_wrapped_text_fits(text: str, size: int, width: int, lines: int) -> None:
    broken = wrapped(text, size, width, lines)
    assert len(broken) <= lines
    assert all(text_width(line, size) <= width for line in broken)
    if not any(line.endswith("…") for line in broken) and all(broken):
        assert " ".join(broken) == " ".join(text.split())


@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=12))
def test_ticks_tell_values_apart(values: list[float]) -> None:
    texts = ticks(values)
    (digits,) = {len(text.partition(".")[2]) for text in texts}
    span = max(values) - min(values)
    for text, value in zip(texts, values, strict=True):
        assert abs(float(text) - value) <= 0.5001 * 10.0**-digits
    if span > 1e-4:
        assert len({texts[values.index(max(values))], texts[values.index(min(values))]}) == 2


def test_numbers_have_their_usual_form() -> None:
    assert ticks([-3.0, 0.0, 3.0]) == ["-3", "0", "3"]
    assert ticks([-3.0, -2.4, -1e-12, 3.0]) == ["-3.0", "-2.4", "0.0", "3.0"]
    assert [signed(v) for v in (1.2, -0.001, -0.35)] == ["+1.20", "0.00", "-0.35"]
    assert signed(0.0015, 4) == "+0.0015"
    assert number_width("1.11", 14) == number_width("4.44", 14)


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
