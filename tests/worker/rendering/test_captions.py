"""Captions: texts fit their places, and numbers distinguish values."""

from hypothesis import given
from hypothesis import strategies as st

from worker.rendering.captions import number_width, signed, text_width, ticks, wrapped

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
