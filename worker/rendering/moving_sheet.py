"""The moving sheet: all strips of a traversal side by side, frame by frame; no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from worker.rendering.captions import (
    ACCENT,
    FAINT,
    INK,
    MUTED,
    PAPER,
    font,
    number_width,
    text_size_px,
    text_width,
    wrapped,
)
from worker.rendering.cells import Cell, Panel, draw_edge, draw_warning, panels, warning
from worker.rendering.encoders import enlarge, to_image
from worker.rendering.rendered import Rendered
from worker.rendering.request import Pixels

_ASPECT = 1.6
"""Ratio of width to height that the layout aims at."""
_LABEL_LINES, _WORD = 8, 8
"""Most lines of a label, which hold any 60 letters of usual words; and the width that a cell has for any word of it, in
font sizes."""

Corner = tuple[int, int]
"""Left and top of something on the sheet, px."""


@dataclass(frozen=True, kw_only=True)
class _CellGeometry:
    """Sizes within one cell, and of the pictures at the sides; all in px."""

    tile: int
    """Side of a picture."""
    text: int
    """Size of the font."""
    line: int
    """Distance between lines of text."""
    gap: int
    """Space between cells."""
    width: int
    height: int
    side_width: int
    """Width of a picture at the side with its text."""
    below_tile: int = 0
    """Distance from a picture to the text under it."""
    note_below: bool = False
    """True if the note has a line of its own, because it does not fit beside the value."""
    end: int = 0
    """Side of the small pictures of both ends under a label; 0 without them."""
    ends_top: int = 0
    """Distance from the top of a cell to those pictures."""

    def label(self, cell: Cell) -> list[str]:
        """Returns the lines of a cell's label."""
        return wrapped(cell.label, self.text, self.width, _LABEL_LINES)

    def track(self, corner: Corner) -> int:
        """Returns the top of the track under a picture, on which a knob shows the value."""
        return corner[1] + self.tile + self.gap // 2


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Size of the sheet, and the corners of its pictures; all in px."""

    width: int
    height: int
    cells: list[Corner]
    left: list[Corner]
    right: list[Corner]


class MovingSheet:
    """The frames of a sheet; each is made when it is indexed."""

    def __init__(
        self, rendered: Rendered, shown: Sequence[Cell], *, captions: bool, peers: Sequence[Cell] | None = None
    ) -> None:
        """Lays the sheet out and draws what does not move.

        Args:
            rendered: The traversal.
            shown: The cells in reading order.
            captions: Whether texts and the pictures at the sides are drawn.
            peers: Cells whose texts decide the size of a cell (default: those shown), so that the sheets of single
                dimensions have one size.
        """
        self._request = rendered.request
        self._cells = shown
        self._captions = captions
        _, width, self._channels = rendered.reconstruction.shape
        self._values: dict[str, NDArray[np.uint8]] = {}
        self._accent = np.asarray(Image.new(self._mode, (1, 1), ACCENT)).reshape(1, 1, -1)
        left, right = panels(rendered) if captions else ([], [])
        tile = width * rendered.request.scale
        self._cell = _measured(peers or shown, left + right, tile) if captions else _bare(tile)
        self._places = _layout(len(shown), len(left), len(right), self._cell, margin=self._cell.gap if captions else 0)
        margin = self._cell.gap
        self._warning = warning(rendered, self._cell.text, self._places.width - 2 * margin) if captions else []
        self._ground = self._draw_ground(left, right)

    def __len__(self) -> int:
        return self._request.steps

    def __getitem__(self, step: int, /) -> Pixels:
        """Returns the frame at a step, (H, W, C) uint8."""
        canvas, tile = self._ground.copy(), self._cell.tile
        for cell, corner in zip(self._cells, self._places.cells, strict=True):
            x, y = corner
            frame = enlarge(cell.frames[step], self._request.scale, self._request.resample)
            canvas[y : y + tile, x : x + tile] = frame
            if self._captions:
                self._draw_value(canvas, cell, step, corner)
        return canvas

    @property
    def reserved_colors(self) -> list[tuple[int, ...]]:
        """RGB colours that a palette must hold, however few pixels have them."""
        return [ImageColor.getrgb(ACCENT), ImageColor.getrgb(PAPER)] if self._captions and self._channels == 3 else []

    @property
    def still(self) -> NDArray[np.bool_]:
        """Which pixels never change, (H, W)."""
        still = np.ones(self._ground.shape[:2], bool)
        cell = self._cell
        for x, y in self._places.cells:
            still[y : y + cell.tile, x : x + cell.tile] = False
            if self._captions:
                still[y + cell.tile : y + cell.tile + cell.below_tile + cell.line, x : x + cell.width] = False
        return still

    @property
    def _mode(self) -> str:
        return "L" if self._channels == 1 else "RGB"

    def _draw_ground(self, left: Panel, right: Panel) -> NDArray[np.uint8]:
        """Draws everything that does not move."""
        places, cell = self._places, self._cell
        height = places.height + len(self._warning) * cell.line
        image = Image.new(self._mode, (places.width, height), PAPER)
        draw = ImageDraw.Draw(image)
        draw_warning(draw, self._warning, (cell.gap, places.height - cell.gap // 2), cell.text)
        for (text, picture), corner in zip(left + right, places.left + places.right, strict=True):
            x, y = corner
            draw_edge(draw, corner, cell.tile)
            image.paste(to_image(enlarge(picture, self._request.scale, self._request.resample)), corner)
            draw.text((x, y + cell.tile + cell.below_tile), text, fill=MUTED, font=font(cell.text))
        if self._captions:
            for shown, corner in zip(self._cells, places.cells, strict=True):
                self._draw_texts(draw, shown, corner)
                if shown.has_ends:
                    self._draw_ends(image, shown, corner)
        return np.asarray(image).reshape(height, places.width, self._channels)

    def _draw_texts(self, draw: ImageDraw.ImageDraw, cell: Cell, corner: Corner) -> None:
        """Draws a cell's edge, track, title, note and label."""
        geometry, (x, y) = self._cell, corner
        tile, track = geometry.tile, geometry.track(corner)
        draw_edge(draw, corner, tile)
        draw.rectangle((x, track, x + tile - 1, track + 1), fill=FAINT)
        if cell.base_fraction is not None:
            base = x + round(cell.base_fraction * (tile - 2))
            draw.rectangle((base, track - 2, base + 1, track + 3), fill=MUTED)
        letters, top = font(geometry.text), y + tile + geometry.below_tile
        draw.text((x, top), cell.lead, fill=MUTED if cell.muted else INK, font=letters)
        if geometry.note_below:
            top += geometry.line
            draw.text((x, top), cell.note, fill=MUTED, font=letters)
        else:
            draw.text((x + tile, top), cell.note, fill=MUTED, font=letters, anchor="ra")
        for words in geometry.label(cell):
            top += geometry.line
            draw.text((x, top), words, fill=MUTED if cell.muted else INK, font=letters)

    def _draw_ends(self, image: Image.Image, cell: Cell, corner: Corner) -> None:
        """Draws the first and the last picture of a cell, small, with an arrow between them."""
        side, gap, (x, y) = self._cell.end, self._cell.gap, corner
        top, draw = y + self._cell.ends_top, ImageDraw.Draw(image)
        last = x + side + 2 * gap
        for frame, left in ((cell.frames[0], x), (cell.frames[-1], last)):
            draw_edge(draw, (left, top), side)
            image.paste(to_image(frame).resize((side, side), Image.Resampling.LANCZOS), (left, top))
        begin, end, middle = x + side + gap // 2, last - gap // 2, top + side // 2
        draw.line((begin, middle, end, middle), fill=MUTED)
        draw.polygon([(end - 4, middle - 3), (end, middle), (end - 4, middle + 3)], fill=MUTED)

    def _draw_value(self, canvas: Pixels, cell: Cell, step: int, corner: Corner) -> None:
        """Draws the knob and the value of one step."""
        geometry, (x, y) = self._cell, corner
        track = geometry.track(corner)
        knob = x + round(step / (len(self) - 1) * (geometry.tile - 6))
        canvas[track - 2 : track + 4, knob : knob + 6] = self._accent
        text = self._value_picture(cell.value_text(step))
        top, left = y + geometry.tile + geometry.below_tile, x + text_width(cell.lead, geometry.text)
        canvas[top : top + len(text), left : left + text.shape[1]] = text

    def _value_picture(self, text: str) -> NDArray[np.uint8]:
        """Returns a value's text as pixels. Most dimensions show the same values, so each value is drawn only once."""
        if text not in self._values:
            size = text_width(text, self._cell.text), self._cell.line
            image = Image.new(self._mode, size, PAPER)
            ImageDraw.Draw(image).text((0, 0), text, fill=INK, font=font(self._cell.text))
            self._values[text] = np.asarray(image).reshape(size[1], size[0], self._channels)
        return self._values[text]


def _bare(tile: int) -> _CellGeometry:
    """Returns the geometry of cells without texts."""
    text = text_size_px(tile)
    return _CellGeometry(
        tile=tile,
        text=text,
        line=round(text * 1.35),
        gap=max(2, tile // 16),
        width=tile,
        height=tile,
        side_width=tile,
    )


def _measured(cells: Sequence[Cell], sides: Panel, tile: int) -> _CellGeometry:
    """Returns the geometry of cells that hold the texts of all given cells."""
    text = text_size_px(tile)
    line, gap = round(text * 1.35), max(8, tile // 10)
    first = notes = words = 0
    for cell in cells:
        values = max(number_width(cell.value_text(step), text) for step in (0, -1))
        first = max(first, text_width(cell.lead, text) + values)
        notes = max(notes, text_width(cell.note, text))
        words = max([words, *(text_width(word, text) for word in cell.label.split())])
    # The note stands at the right of the first line if both fit there.
    note_below = notes > 0 and first + text + notes > tile
    width = max(tile, first, notes, min(words, _WORD * text))
    labels = max(len(wrapped(cell.label, text, width, _LABEL_LINES)) for cell in cells)
    below_tile = gap // 2 + 6
    ends_top = tile + below_tile + (1 + note_below + labels) * line + gap // 3
    end = max(24, round(tile * 0.3)) if any(cell.has_ends for cell in cells) else 0
    return _CellGeometry(
        tile=tile,
        text=text,
        line=line,
        gap=gap,
        width=width,
        height=ends_top + end if end else ends_top - gap // 3,
        side_width=max([tile, *(text_width(words, text) for words, _ in sides)]),
        below_tile=below_tile,
        note_below=note_below,
        end=end,
        ends_top=ends_top,
    )


def _layout(num_cells: int, num_left: int, num_right: int, cell: _CellGeometry, *, margin: int) -> _Layout:
    """Arranges cells in rows that come near to the aspect ratio, between the panels.

    Args:
        num_cells: Number of cells.
        num_left: Number of pictures in the left panel.
        num_right: Number of pictures in the right panel.
        cell: Sizes of a cell.
        margin: Space around everything, px.
    """
    columns = min(num_cells, max(1, math.ceil(math.sqrt(num_cells * _ASPECT * cell.height / cell.width) - 0.25)))
    rows = math.ceil(num_cells / columns)
    columns = math.ceil(num_cells / rows)
    step_x, step_y = cell.width + cell.gap, cell.height + cell.gap
    # The pictures of a panel stand above each other if there are two rows or more, else side by side.
    side_x, side_y = (0, step_y) if rows > 1 else (cell.side_width + cell.gap, 0)

    def panel_width(num_pictures: int) -> int:
        return cell.side_width + cell.gap + (num_pictures - 1) * side_x if num_pictures else 0

    first = margin + panel_width(num_left) + (cell.gap if num_left else 0)
    last = first + columns * step_x + (cell.gap if num_right else 0)
    return _Layout(
        width=last + panel_width(num_right) - cell.gap + margin,
        height=2 * margin + max(rows, num_left if rows > 1 else 1) * step_y - cell.gap,
        cells=[(first + k % columns * step_x, margin + k // columns * step_y) for k in range(num_cells)],
        left=[(margin + k * side_x, margin + k * side_y) for k in range(num_left)],
        right=[(last + k * side_x, margin + k * side_y) for k in range(num_right)],
    )
