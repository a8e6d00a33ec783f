"""JSON from clients: only finite values within bounds are accepted."""

from typing import Any

import pytest

from models.strict_json import MAX_DEPTH, loads


def _nested(depth: int, inner: str = "1") -> str:
    """Returns `inner` inside this many lists and objects in turn."""
    text = inner
    for i in range(depth):
        text = f"[{text}]" if i % 2 else f'{{"a": {text}}}'
    return text


@pytest.mark.parametrize("text", ["1", "null", '"a"', "[]", "{}", "[1.5, true, {}]"])
def test_ordinary_values_come_through(text: str) -> None:
    values: dict[str, Any] = {"1": 1, "null": None, '"a"': "a", "[]": [], "{}": {}, "[1.5, true, {}]": [1.5, True, {}]}
    assert loads(text) == values[text]
    assert loads(text.encode()) == values[text]


@pytest.mark.parametrize("inner", ["1", '"[[["', "{}", "[]"])
def test_nesting_is_bounded(inner: str) -> None:
    around = MAX_DEPTH - (inner in ("{}", "[]"))
    loads(_nested(around, inner))
    with pytest.raises(ValueError, match=f"nested more than {MAX_DEPTH} deep"):
        loads(_nested(around + 1, inner))


@pytest.mark.parametrize("depth", [500, 900, 990, 1000, 5_000, 1_000_000])
def test_deep_nesting_is_a_value_error(depth: int) -> None:
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        with pytest.raises(ValueError, match="nested more than"):
            loads(text)


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e999", "9223372036854775808", "9" * 5000, "[1", "\ufeff1", ""]
)
def test_json_that_is_not_finite_or_too_deep_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"\udfff": 1}', b'["a\xed\xa0\x80"]', r'"\udc00\ud800"'])
def test_text_that_utf_8_cannot_hold_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="text that UTF-8 cannot hold"):
        loads(text)
    assert loads(r'"\ud83d\ude00"') == "😀"


def test_a_whole_number_may_have_a_fraction_of_zero() -> None:
    text = "[64.0, 6.4e1, -0.0, 64.5, 9007199254740992.0]"
    found = loads(text, whole=True)
    assert found == [64, 64, 0, 64.5, 2.0**53]
    assert [type(value) for value in found] == [int, int, int, float, float]
    assert {type(value) for value in loads(text)} == {float}
