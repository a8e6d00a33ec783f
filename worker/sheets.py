"""Sheets: all strips of a traversal in one picture, moving (`MovingSheet`) or still (`still_sheet`); no torch."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from worker.animation import enlarge, to_image
from worker.captions import ACCENT, FAINT, INK, MUTED, PAPER, fitted, font, nats, signed, text_size_px, text_width
from worker.rendered import Rendered, Strip, Vector, column_indices
from worker.traversal_request import Pixels

_ASPECT = 1.6
"""Width to height that a moving sheet comes near to."""


@dataclass(frozen=True)
class Cell:
    """One moving picture of a sheet, or one row of a still one, with its texts."""

    frames: Pixels
    title: str
    note: str
    label: str
    values: Vector
    base: float | None
    muted: bool = False

    def value_text(self, step: int) -> str:
        """The value at a step: a latent's with its sign, a fraction of the way without."""
        value = float(self.values[step])
        return f"{value:.2f}" if self.base is None else signed(value)

    @property
    def base_fraction(self) -> float | None:
        """Where the start lies between the first and the last value, 0 to 1; None where it does not."""
        first, last = float(self.values[0]), float(self.values[-1])
        if self.base is None or first == last:
            return None
        fraction = (self.base - first) / (last - first)
        return fraction if 0 <= fraction <= 1 else None


def cells(rendered: Rendered) -> list[Cell]:
    """What a sheet of everything shows: its dimensions, a grid's rows, or the path between two images."""
    if rendered.target is not None:
        strip = rendered.strips[0]
        return [Cell(strip.frames, rendered.request.interpolation, "", "", strip.values, None)]
    if rendered.rows is not None and rendered.row_values is not None:
        _, down = rendered.request.grid_dimensions or (0, 0)
        across = f"z{rendered.rows[0].dimension}"
        return [
            Cell(strip.frames, f"z{down} = {signed(float(value))}", "", across, strip.values, strip.base)
            for strip, value in zip(rendered.rows, rendered.row_values, strict=True)
        ]
    return [dimension_cell(rendered, strip) for strip in rendered.strips]


def dimension_cell(rendered: Rendered, strip: Strip) -> Cell:
    """One dimension with its KL, label and values."""
    dimension = strip.dimension or 0
    active = rendered.is_active(dimension)
    note = nats(rendered.kl[dimension]) if rendered.kl is not None else ""
    label = rendered.label(dimension) if active else "inactive"
    return Cell(strip.frames, f"z{dimension}", note, label, strip.values, strip.base, not active)


Panel = list[tuple[str, Pixels]]
"""Pictures at a sheet's side, each with a text."""


def panels(rendered: Rendered) -> tuple[Panel, Panel]:
    """What stands at the left: original and reconstruction; of an interpolation, the originals at both sides."""
    if rendered.original is not None and rendered.target is not None:
        return [("original", rendered.original)], [("original", rendered.target[0])]
    left: Panel = [("reconstruction" if rendered.original is not None else "start", rendered.reconstruction)]
    if rendered.original is not None:
        left.insert(0, ("original", rendered.original))
    return left, []


class MovingSheet:
    """The frames of a sheet, each made when it is asked for: (H, W, C) uint8.

    Args: shown, the cells in reading order; captions, whether texts and the pictures at the sides are drawn.
    """

    def __init__(self, rendered: Rendered, shown: list[Cell], *, captions: bool) -> None:
        self._request = rendered.request
        self._cells = shown
        self._captions = captions
        _, width, self._channels = rendered.reconstruction.shape
        self._tile = width * rendered.request.scale
        self._text = text_size_px(self._tile)
        self._line = round(self._text * 1.35)
        self._gap = max(2, self._tile // 16) if not captions else max(8, self._tile // 10)
        self._values: dict[str, NDArray[np.uint8]] = {}
        self._left, self._right = panels(rendered) if captions else ([], [])
        self._layout()
        self._ground = self._draw_ground()

    def _layout(self) -> None:
        cell_width, cell_height = self._tile, self._tile
        if self._captions:
            widest = max(text_width(f"{cell.title}  {cell.note}", self._text) for cell in self._cells)
            side = max(text_width(text, self._text) for text, _ in self._left + self._right)
            labels = max(text_width(f"{cell.label}  +0.00", self._text) for cell in self._cells)
            cell_width = max(self._tile, widest, side, min(labels, self._tile * 3 // 2))
            cell_height = self._tile + self._gap // 2 + 6 + 2 * self._line
        num = len(self._cells)
        columns = min(num, max(1, math.ceil(math.sqrt(num * _ASPECT * cell_height / cell_width) - 0.25)))
        rows = math.ceil(num / columns)
        columns = math.ceil(num / rows)
        # The panels stand upright beside two rows or more, else their two pictures lie in the row.
        side_columns = [0 if not panel else 1 if rows > 1 else len(panel) for panel in (self._left, self._right)]
        step_x, step_y = cell_width + self._gap, cell_height + self._gap
        margin = self._gap if self._captions else 0
        self._cell_width = cell_width
        total = side_columns[0] + columns + side_columns[1]
        divider = [self._gap if count else 0 for count in side_columns]
        self._width = 2 * margin + total * step_x - self._gap + sum(divider)
        self._height = 2 * margin + max(rows, len(self._left) if rows > 1 else 1) * step_y - self._gap
        first = margin + side_columns[0] * step_x + divider[0]
        self._places = [(first + k % columns * step_x, margin + k // columns * step_y) for k in range(num)]
        last = first + columns * step_x + divider[1]
        self._left_places = self._panel_places(self._left, margin, margin, rows, step_x, step_y)
        self._right_places = self._panel_places(self._right, last, margin, rows, step_x, step_y)

    @staticmethod
    def _panel_places(panel: Panel, x: int, y: int, rows: int, step_x: int, step_y: int) -> list[tuple[int, int]]:
        return [(x, y + k * step_y) if rows > 1 else (x + k * step_x, y) for k in range(len(panel))]

    def _draw_ground(self) -> NDArray[np.uint8]:
        """Everything that does not move."""
        image = Image.new("L" if self._channels == 1 else "RGB", (self._width, self._height), PAPER)
        draw = ImageDraw.Draw(image)
        panel = zip(self._left + self._right, self._left_places + self._right_places, strict=True)
        for (text, picture), (x, y) in panel:
            image.paste(to_image(enlarge(picture, self._request.scale, self._request.resample)), (x, y))
            draw.text((x, y + self._tile + self._gap // 2 + 6), text, fill=MUTED, font=font(self._text))
        if self._captions:
            for cell, (x, y) in zip(self._cells, self._places, strict=True):
                self._draw_texts(draw, cell, x, y)
        return np.asarray(image).reshape(self._height, self._width, self._channels)

    def _draw_texts(self, draw: ImageDraw.ImageDraw, cell: Cell, x: int, y: int) -> None:
        track = y + self._tile + self._gap // 2
        draw.rectangle((x, track, x + self._tile - 1, track + 1), fill=FAINT)
        if cell.base_fraction is not None:
            base = x + round(cell.base_fraction * (self._tile - 2))
            draw.rectangle((base, track - 2, base + 1, track + 3), fill=MUTED)
        top, right = track + 6, x + self._cell_width
        letters = font(self._text)
        draw.text((x, top), cell.title, fill=MUTED if cell.muted else INK, font=letters)
        draw.text((right, top), cell.note, fill=MUTED, font=letters, anchor="ra")
        room = self._cell_width - text_width(" +0.00", self._text)
        draw.text((x, top + self._line), fitted(cell.label, self._text, room), fill=MUTED, font=letters)

    @property
    def reserved_colors(self) -> list[tuple[int, ...]]:
        """What a palette must hold however few pixels have it."""
        return [ImageColor.getrgb(ACCENT), ImageColor.getrgb(PAPER)] if self._captions and self._channels == 3 else []

    def __len__(self) -> int:
        return self._request.steps

    def __getitem__(self, step: int, /) -> Pixels:
        canvas = self._ground.copy()
        for cell, (x, y) in zip(self._cells, self._places, strict=True):
            frame = enlarge(cell.frames[step], self._request.scale, self._request.resample)
            canvas[y : y + self._tile, x : x + self._tile] = frame
            if self._captions:
                self._draw_value(canvas, cell.value_text(step), step, x, y)
        return canvas

    def _draw_value(self, canvas: Pixels, value: str, step: int, x: int, y: int) -> None:
        track = y + self._tile + self._gap // 2
        knob = x + round(step / (len(self) - 1) * (self._tile - 6))
        accent = Image.new("L" if self._channels == 1 else "RGB", (1, 1), ACCENT)
        canvas[track - 2 : track + 4, knob : knob + 6] = np.asarray(accent).reshape(1, 1, -1)
        text = self._value_picture(value)
        top, right = track + 6 + self._line, x + self._cell_width
        canvas[top : top + len(text), right - text.shape[1] : right] = text

    def _value_picture(self, text: str) -> NDArray[np.uint8]:
        """A value's text as pixels; most dimensions show the same values, so that few are drawn."""
        if text not in self._values:
            size = text_width(text, self._text), self._line
            image = Image.new("L" if self._channels == 1 else "RGB", size, PAPER)
            ImageDraw.Draw(image).text((size[0], 0), text, fill=INK, font=font(self._text), anchor="ra")
            self._values[text] = np.asarray(image).reshape(self._line, size[0], self._channels)
        return self._values[text]


_UNITS = {
    "prior": "latent value",
    "posterior": "standard deviations of the aggregate posterior",
    "quantiles": "standard deviations of the aggregate posterior, in steps of equal probability",
    "image": "standard deviations of this image's posterior",
}


def still_sheet(rendered: Rendered, *, captions: bool) -> Pixels:
    """The figure for a paper: original, reconstruction, and a row of frames for each cell, (H, W, 3) uint8."""
    request, shown = rendered.request, cells(rendered)
    if rendered.rows is not None:  # what moves across stands above all rows
        shown = [replace(cell, label="") for cell in shown]
    columns = column_indices(request)
    tile = rendered.reconstruction.shape[0] * request.scale
    text = text_size_px(tile)
    line, gap = round(text * 1.35), max(2, tile // 24)
    pad = 2 * gap + text // 2 if captions else 0
    left, right = panels(rendered) if captions else ([], [])
    side = max([tile, *(text_width(label, text) for label, _ in left + right)]) if captions else 0
    names = max(_name_width(cell, text) for cell in shown) + text if captions else 0
    header = 2 * line + gap if captions else 0

    first = pad + (side + 2 * text if captions else 0) + names
    last = first + len(columns) * (tile + gap) - gap
    width = last + pad + (side + 2 * text if right else 0)
    rows_height = len(shown) * (tile + gap) - gap
    panel_height = max(len(left), len(right)) * (tile + line + gap) - gap
    height = 2 * pad + header + max(rows_height, panel_height)
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)

    top = pad + header
    for panel, x in ((left, pad), (right, last + 2 * text)):
        for k, (label, picture) in enumerate(panel):
            y = top + k * (tile + line + gap)
            image.paste(to_image(enlarge(picture, request.scale, request.resample)), (x, y))
            draw.text((x, y + tile + 2), label, fill=MUTED, font=font(text))
    if captions:
        unit = "fraction of the way" if rendered.target is not None else _unit(rendered)
        if any(cell.base_fraction is not None for cell in shown):
            unit += " · red: nearest to the reconstruction"
        draw.text((first, pad), fitted(unit, text, last - first), fill=MUTED, font=font(text))
        for k, column in enumerate(columns):
            value = _header(rendered, float(rendered.positions[column]), tile, text)
            draw.text((first + k * (tile + gap) + tile // 2, pad + line), value, fill=INK, font=font(text), anchor="ma")
    for row, cell in enumerate(shown):
        y = top + row * (tile + gap)
        if captions:
            _draw_name(draw, cell, first - names, y + tile // 2, text, line)
        for k, column in enumerate(columns):
            frame = enlarge(cell.frames[column], request.scale, request.resample)
            image.paste(to_image(frame), (first + k * (tile + gap), y))
    if captions:
        _mark_starts(draw, shown, columns, first, top, tile, gap)
    return np.asarray(image)


def _unit(rendered: Rendered) -> str:
    unit = _UNITS[rendered.request.range]
    if rendered.request.grid_dimensions:
        across, down = rendered.request.grid_dimensions
        return f"z{across} across, z{down} down: {unit}"
    return unit


def _header(rendered: Rendered, position: float, tile: int, text: int) -> str:
    if rendered.target is not None:
        return f"{position:.2f}"
    for digits in (2, 1, 0):
        value = f"{position:.{digits}f}"
        if text_width(value, text) <= tile:
            break
    return value


def _name_width(cell: Cell, text: int) -> int:
    return max(text_width(word, text) for word in (cell.title, cell.note, cell.label[:24]))


def _draw_name(draw: ImageDraw.ImageDraw, cell: Cell, x: int, middle: int, text: int, line: int) -> None:
    """Title, KL and label at the left of a row, around its middle."""
    lines = [(cell.title, MUTED if cell.muted else INK), (cell.note, MUTED), (cell.label[:24], MUTED)]
    lines = [(words, colour) for words, colour in lines if words]
    y = middle - len(lines) * line // 2
    for words, colour in lines:
        draw.text((x, y), words, fill=colour, font=font(text))
        y += line


def _mark_starts(
    draw: ImageDraw.ImageDraw,
    shown: list[Cell],
    columns: NDArray[np.int64],
    first: int,
    top: int,
    tile: int,
    gap: int,
) -> None:
    """A frame around each row's picture that is nearest to the reconstruction."""
    for row, cell in enumerate(shown):
        if cell.base_fraction is None or cell.base is None:
            continue
        k = int(np.abs(cell.values[columns] - cell.base).argmin())
        x, y = first + k * (tile + gap), top + row * (tile + gap)
        thickness = max(1, gap // 2)
        box = (x - thickness, y - thickness, x + tile + thickness - 1, y + tile + thickness - 1)
        draw.rectangle(box, outline=ACCENT, width=thickness)
