"""Sheets: nothing is cut off or painted over, and rows have the requested order."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageDraw

from worker.rendering.captions import ACCENT
from worker.rendering.cells import cells, dimension_cell
from worker.rendering.encoders import enlarge, to_image
from worker.rendering.files import dimension_animation
from worker.rendering.moving_sheet import MovingSheet
from worker.rendering.rendered import Rendered, Strip
from worker.rendering.request import Pixels, TraversalRequest
from worker.rendering.still_sheet import still_sheet

LABELS = ["", "moves right", "gets wider and shorter, moves up and left", "W" * 60, "a " * 30]


_rng = np.random.default_rng


def _rendered(
    *, num: int = 3, size: int = 32, channels: int = 1, steps: int = 3, kl: list[float] | None = None, **form: Any
) -> Rendered:
    """Returns a rendered traversal of random pictures whose edges are not white."""

    def pictures(*shape: int) -> Pixels:
        return _rng(sum(shape)).integers(0, 200, (*shape, size, size, channels), dtype=np.uint8)

    request = TraversalRequest(**{"steps": steps, "dimensions": ",".join(map(str, range(num))), "scale": 1, **form})
    values = np.linspace(request.start, request.end, steps, dtype=np.float32)
    return Rendered(
        request=request,
        positions=values,
        strips=[Strip(k, values, 0.3, pictures(k + 1, steps)[0]) for k in range(num)],
        original=pictures(),
        reconstruction=pictures(),
        mean=np.zeros(num, np.float32),
        log_variance=None,
        image_kl=None,
        kl=kl,
        labels=[LABELS[k % len(LABELS)] for k in range(num)],
    )


shown = {
    "num": st.sampled_from([1, 2, 5, 32]),
    "size": st.sampled_from([32, 64, 128]),
    "channels": st.sampled_from([1, 3]),
    "scale": st.sampled_from([1, 3]),
    "ends": st.sampled_from([(-3.0, 3.0), (3.0, -3.0), (-100.0, 100.0), (0.001, 0.002), (0.0, 0.0)]),
    "kl": st.sampled_from([None, 0.0, 1234.5]),
    "columns": st.sampled_from([2, 11]),
}


@settings(deadline=None, max_examples=15)
@given(form=st.fixed_dictionaries(shown))
def test_no_text_is_cut_off_and_none_lies_over_a_picture(form: dict[str, Any]) -> None:
    start, end = form.pop("ends")
    kl = None if form["kl"] is None else [form["kl"]] * form["num"]
    rendered = _rendered(**{**form, "kl": kl}, start=start, end=end)
    sheet = MovingSheet(rendered, cells(rendered), captions=True)
    for step in (0, len(sheet) - 1):
        frame = sheet[step]
        assert _edge_is_paper(frame)
        for strip in rendered.strips:
            tile = enlarge(strip.frames[step], form["scale"], rendered.request.resample)
            assert _times_inside(frame, tile) == 1
    still = still_sheet(rendered, captions=True)
    assert _edge_is_paper(still)
    for strip in rendered.strips:
        tile = enlarge(strip.frames[-1], form["scale"], rendered.request.resample)
        assert _times_inside(still, tile.repeat(4 - form["channels"] if form["channels"] == 1 else 1, -1)) == 1


def _edge_is_paper(picture: Pixels) -> bool:
    return all(bool((edge == 255).all()) for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]))


def _times_inside(picture: Pixels, tile: Pixels) -> int:
    """Counts how often a tile lies in a picture, pixel for pixel."""
    height, width, _ = tile.shape
    row = tile[0].tobytes()
    found = 0
    for y in range(picture.shape[0] - height + 1):
        line, x = picture[y].tobytes(), -1
        while (x := line.find(row, x + 1)) >= 0:
            column, rest = divmod(x, picture.shape[2])
            if rest == 0 and np.array_equal(picture[y : y + height, column : column + width], tile):
                found += 1
    return found


@pytest.mark.parametrize(("order", "rows"), [("auto", [1, 2, 0]), ("kl", [0, 1, 2]), ("index", [0, 1, 2])])
def test_the_still_sheet_is_sorted_by_kl_unless_another_order_is_requested(order: str, rows: list[int]) -> None:
    # The strips of order=kl are sorted already, and the sheet keeps their order.
    rendered = _rendered(kl=[0.1, 3.0, 1.0], order=order)
    still = still_sheet(rendered, captions=False)
    tops = {}
    for strip in rendered.strips:
        tile = strip.frames[0].repeat(3, -1)
        tops[strip.dimension] = next(
            y for y in range(0, still.shape[0], 34) if np.array_equal(still[y : y + 32, :32], tile)
        )
    assert sorted(tops, key=lambda k: tops[k]) == rows


def test_animations_of_single_dimensions_with_captions_have_one_size() -> None:
    rendered = _rendered(num=5, kl=[0.0, 12.5, 1.0, 3.0, 0.5], captions="on")
    headers = {dimension_animation(rendered, strip)[1][6:10] for strip in rendered.strips}
    assert len(headers) == 1


def test_a_dimension_without_information_is_called_inactive() -> None:
    rendered = _rendered(kl=[0.0, 1.0, 2.0])
    texts = [
        (dimension_cell(rendered, strip).label, dimension_cell(rendered, strip).muted) for strip in rendered.strips
    ]
    assert texts == [("inactive", True), ("moves right", False), (LABELS[2], False)]


def test_an_unfamiliar_picture_is_called_so_below_both_sheets() -> None:
    known = _rendered(num=3, size=64, channels=3)
    unknown = replace(
        known, unfamiliar=True, unfamiliar_reason="This picture is unlike what the model knows: " + "x" * 9
    )

    def moving(rendered: Rendered) -> Pixels:
        return MovingSheet(rendered, cells(rendered), captions=True)[0]

    for draw in (partial(still_sheet, captions=True), moving):
        before, after = draw(known), draw(unknown)
        assert np.array_equal(after[: len(before) - 30], before[:-30])
        below = after[len(before) - 30 :]
        assert len(after) > len(before)
        assert (below == ImageColor.getrgb(ACCENT)).all(-1).any()
    bare = still_sheet(known, captions=False)
    assert np.array_equal(still_sheet(unknown, captions=False), bare)


def test_the_moving_sheet_shows_both_ends_of_each_label() -> None:
    rendered = _rendered(num=2, size=64, channels=3, steps=5)
    shown_cells = cells(rendered)
    assert [cell.has_ends for cell in shown_cells] == [False, True]
    sheet = MovingSheet(rendered, shown_cells, captions=True)
    small = [
        np.asarray(to_image(shown_cells[1].frames[step]).resize((24, 24), Image.Resampling.LANCZOS)) for step in (0, -1)
    ]
    windows = np.lib.stride_tricks.sliding_window_view(sheet[2], (24, 24, 3))[:, :, 0]
    for picture in small:
        assert (np.abs(windows.astype(int) - picture).max((2, 3, 4)) == 0).sum() == 1


@pytest.mark.parametrize("size", [32, 64, 128])
def test_no_sheet_cuts_a_label(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    label = "around the centre: dark green → grey, background: red → blue"
    rendered = replace(_rendered(num=12, size=size, kl=[12.34] * 12), labels=[label] * 12)
    drawn: list[str] = []
    draw_text = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, place: Any, words: str, *rest: Any, **form: Any) -> None:
        drawn.append(words)
        draw_text(self, place, words, *rest, **form)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    MovingSheet(rendered, cells(rendered), captions=True)
    still_sheet(rendered, captions=True)
    assert " ".join(drawn).count(label.replace("→", "to")) == 24


def test_an_arrow_of_a_label_is_written_as_a_word() -> None:
    """The font has no arrow."""
    rendered = replace(_rendered(num=1), labels=["top: brown → blue"])
    assert dimension_cell(rendered, rendered.strips[0]).label == "top: brown to blue"
