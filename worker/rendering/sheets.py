"""Sheets: all strips of a traversal in one picture, moving (`MovingSheet`) or still (`still_sheet`); no torch."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from worker.rendering.captions import (
    ACCENT,
    FAINT,
    INK,
    MUTED,
    PAPER,
    digits_for,
    font,
    nats,
    number_width,
    signed,
    text_size_px,
    text_width,
    ticks,
    wrapped,
)
from worker.rendering.encoders import enlarge, to_image
from worker.rendering.rendered import Rendered, Strip, Vector, column_indices
from worker.rendering.request import Pixels

_ASPECT = 1.6
"""Width to height that a moving sheet comes near to."""


@dataclass(frozen=True)
class Cell:
    """One moving picture of a sheet, or one row of a still one, with its texts.

    title: what moves, such as z3. note: its KL. label: in words. base: the value at the start.
    """

    frames: Pixels
    title: str
    note: str
    label: str
    values: Vector
    base: float | None
    muted: bool = False

    @property
    def lead(self) -> str:
        """What stands before the value."""
        return f"{self.title} " if self.base is None else f"{self.title} = "

    def value_text(self, step: int) -> str:
        """The value at a step: a latent's with its sign, a fraction of the way without."""
        value = float(self.values[step])
        if self.base is None:
            return f"{value:.2f}"
        return signed(value, digits_for(abs(float(self.values[-1]) - float(self.values[0]))))

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
            Cell(strip.frames, across, "", f"z{down} = {signed(float(value))}", strip.values, strip.base)
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

    Args: shown, the cells in reading order; captions, whether texts and the pictures at the sides are drawn; peers,
    the cells that places are measured for, so that sheets of one dimension each have one size.
    """

    def __init__(
        self, rendered: Rendered, shown: list[Cell], *, captions: bool, peers: list[Cell] | None = None
    ) -> None:
        self._request = rendered.request
        self._cells = shown
        self._captions = captions
        _, width, self._channels = rendered.reconstruction.shape
        self._tile = width * rendered.request.scale
        self._text = text_size_px(self._tile)
        self._line = round(self._text * 1.35)
        self._gap = max(2, self._tile // 16) if not captions else max(8, self._tile // 10)
        self._values: dict[str, NDArray[np.uint8]] = {}
        self._accent = np.asarray(Image.new("L" if self._channels == 1 else "RGB", (1, 1), ACCENT)).reshape(1, 1, -1)
        self._left, self._right = panels(rendered) if captions else ([], [])
        self._measure_cells(peers or shown)
        self._layout()
        self._ground = self._draw_ground()

    def _measure_cells(self, measured: list[Cell]) -> None:
        """Width and height of a cell, and in how many lines its texts lie."""
        self._cell_width = self._cell_height = self._side_width = self._tile
        if not self._captions:
            return
        first, notes = 0, 0
        for cell in measured:
            values = max(number_width(cell.value_text(step), self._text) for step in (0, -1))
            first = max(first, text_width(cell.lead, self._text) + values)
            notes = max(notes, text_width(cell.note, self._text))
        # The note stands at the right of the first line where both fit, else below.
        self._note_below = notes > 0 and first + self._text + notes > self._tile
        self._cell_width = max(self._tile, first, notes)
        self._label_lines = 2 if self._tile >= 96 else 3
        labels = max(len(self._label(cell)) for cell in measured)
        self._below_tile = self._gap // 2 + 6
        self._cell_height += self._below_tile + (1 + self._note_below + labels) * self._line
        self._side_width = max([self._tile, *(text_width(text, self._text) for text, _ in self._left + self._right)])

    def _label(self, cell: Cell) -> list[str]:
        return wrapped(cell.label, self._text, self._cell_width, self._label_lines)

    def _layout(self) -> None:
        num = len(self._cells)
        columns = min(num, max(1, math.ceil(math.sqrt(num * _ASPECT * self._cell_height / self._cell_width) - 0.25)))
        rows = math.ceil(num / columns)
        columns = math.ceil(num / rows)
        step_x, step_y = self._cell_width + self._gap, self._cell_height + self._gap
        margin = self._gap if self._captions else 0
        # The panels stand upright beside two rows or more, else their two pictures lie in the row.
        side_x, side_y = (0, step_y) if rows > 1 else (self._side_width + self._gap, 0)

        def side_width(panel: Panel) -> int:
            if not panel:
                return 0
            return int(self._side_width + self._gap + (len(panel) - 1) * side_x)

        first = margin + side_width(self._left) + (self._gap if self._left else 0)
        last = first + columns * step_x + (self._gap if self._right else 0)
        self._width = last + side_width(self._right) - self._gap + margin
        self._height = 2 * margin + max(rows, len(self._left) if rows > 1 else 1) * step_y - self._gap
        self._places = [(first + k % columns * step_x, margin + k // columns * step_y) for k in range(num)]
        self._left_places = [(margin + k * side_x, margin + k * side_y) for k in range(len(self._left))]
        self._right_places = [(last + k * side_x, margin + k * side_y) for k in range(len(self._right))]

    def _draw_ground(self) -> NDArray[np.uint8]:
        """Everything that does not move."""
        image = Image.new("L" if self._channels == 1 else "RGB", (self._width, self._height), PAPER)
        draw = ImageDraw.Draw(image)
        panel = zip(self._left + self._right, self._left_places + self._right_places, strict=True)
        for (text, picture), (x, y) in panel:
            draw_edge(draw, x, y, self._tile)
            image.paste(to_image(enlarge(picture, self._request.scale, self._request.resample)), (x, y))
            draw.text((x, y + self._tile + self._below_tile), text, fill=MUTED, font=font(self._text))
        if self._captions:
            for cell, (x, y) in zip(self._cells, self._places, strict=True):
                self._draw_texts(draw, cell, x, y)
        return np.asarray(image).reshape(self._height, self._width, self._channels)

    def _draw_texts(self, draw: ImageDraw.ImageDraw, cell: Cell, x: int, y: int) -> None:
        draw_edge(draw, x, y, self._tile)
        track = y + self._tile + self._gap // 2
        draw.rectangle((x, track, x + self._tile - 1, track + 1), fill=FAINT)
        if cell.base_fraction is not None:
            base = x + round(cell.base_fraction * (self._tile - 2))
            draw.rectangle((base, track - 2, base + 1, track + 3), fill=MUTED)
        letters, top = font(self._text), y + self._tile + self._below_tile
        draw.text((x, top), cell.lead, fill=MUTED if cell.muted else INK, font=letters)
        if self._note_below:
            top += self._line
            draw.text((x, top), cell.note, fill=MUTED, font=letters)
        else:
            draw.text((x + self._tile, top), cell.note, fill=MUTED, font=letters, anchor="ra")
        for words in self._label(cell):
            top += self._line
            draw.text((x, top), words, fill=MUTED if cell.muted else INK, font=letters)

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
                self._draw_value(canvas, cell, step, x, y)
        return canvas

    def _draw_value(self, canvas: Pixels, cell: Cell, step: int, x: int, y: int) -> None:
        track = y + self._tile + self._gap // 2
        knob = x + round(step / (len(self) - 1) * (self._tile - 6))
        canvas[track - 2 : track + 4, knob : knob + 6] = self._accent
        text = self._value_picture(cell.value_text(step))
        top, left = y + self._tile + self._below_tile, x + text_width(cell.lead, self._text)
        canvas[top : top + len(text), left : left + text.shape[1]] = text

    def _value_picture(self, text: str) -> NDArray[np.uint8]:
        """A value's text as pixels; most dimensions show the same values, so that few are drawn."""
        if text not in self._values:
            size = text_width(text, self._text), self._line
            image = Image.new("L" if self._channels == 1 else "RGB", size, PAPER)
            ImageDraw.Draw(image).text((0, 0), text, fill=INK, font=font(self._text))
            self._values[text] = np.asarray(image).reshape(self._line, size[0], self._channels)
        return self._values[text]


def draw_edge(draw: ImageDraw.ImageDraw, x: int, y: int, tile: int) -> None:
    """A fine line around a picture, which else has no edge where it is as light as the paper."""
    draw.rectangle((x - 1, y - 1, x + tile, y + tile), outline=FAINT)


_UNITS = {
    "prior": "latent value",
    "posterior": "standard deviations of the aggregate posterior",
    "quantiles": "standard deviations of the aggregate posterior, in steps of equal probability",
    "image": "standard deviations of this image's posterior",
}


def still_sheet(rendered: Rendered, *, captions: bool) -> Pixels:
    """The figure for a paper: original, reconstruction, and a row of frames for each cell, (H, W, 3) uint8."""
    request, shown = rendered.request, _rows(rendered)
    columns = column_indices(request)
    tile = rendered.reconstruction.shape[0] * request.scale
    text = text_size_px(tile)
    line, gap = round(text * 1.35), max(4, tile // 16) if captions else max(2, tile // 24)
    pad = gap + text if captions else 0
    left, right = panels(rendered) if captions else ([], [])
    side = max([tile, *(text_width(label, text) for label, _ in left + right)]) + 2 * text if captions else 0
    names = [_name_lines(cell, text, max(1, (tile + gap) // line)) for cell in shown] if captions else []
    names_width = max((text_width(words, text) for lines in names for words in lines), default=-text) + text
    header = 2 * line + gap if captions else 0

    first = pad + side + names_width
    last = first + len(columns) * (tile + gap) - gap
    unit = _unit(rendered, shown)
    width = max(last, first + text_width(unit, text) if captions else 0) + pad + (side if right else 0)
    panel_height = max(len(left), len(right)) * (tile + line + 2 * gap) - 2 * gap
    height = 2 * pad + header + max(len(shown) * (tile + gap) - gap, panel_height)
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)

    top = pad + header
    for panel, x in ((left, pad), (right, last + 2 * text)):
        for k, (label, picture) in enumerate(panel):
            y = top + k * (tile + line + 2 * gap)
            draw_edge(draw, x, y, tile)
            image.paste(to_image(enlarge(picture, request.scale, request.resample)), (x, y))
            draw.text((x, y + tile + gap // 2), label, fill=MUTED, font=font(text))
    if captions:
        draw.text((first, pad), unit, fill=MUTED, font=font(text))
        _draw_header(draw, rendered.positions[columns], (first, pad + line), tile, gap, text)
        for row, (cell, lines) in enumerate(zip(shown, names, strict=True)):
            _draw_name(draw, cell, lines, (first - names_width, top + row * (tile + gap) + tile // 2), text, line)
    for row, cell in enumerate(shown):
        y = top + row * (tile + gap)
        for k, column in enumerate(columns):
            x = first + k * (tile + gap)
            if captions:
                draw_edge(draw, x, y, tile)
            frame = enlarge(cell.frames[column], request.scale, request.resample)
            image.paste(to_image(frame), (x, y))
    if captions:
        _mark_starts(draw, shown, columns, first, top, tile, gap)
    return np.asarray(image)


def _rows(rendered: Rendered) -> list[Cell]:
    """The cells in the order of the rows: by KL, unless another order was asked for."""
    shown = cells(rendered)
    if rendered.rows is not None:  # what moves across stands above all rows
        return [replace(cell, title=cell.label, label="") for cell in shown]
    kl = rendered.kl
    if rendered.target is None and rendered.request.order == "auto" and kl is not None:
        order = sorted(range(len(shown)), key=lambda k: (-kl[rendered.strips[k].dimension or 0], k))
        return [shown[k] for k in order]
    return shown


def _unit(rendered: Rendered, shown: list[Cell]) -> str:
    """What the numbers above the columns are, and the marks."""
    unit = _UNITS[rendered.request.range]
    if rendered.target is not None:
        unit = "fraction of the way"
    elif rendered.request.grid_dimensions:
        across, down = rendered.request.grid_dimensions
        unit = f"z{across} across, z{down} down: {unit}"
    if any(cell.base_fraction is not None for cell in shown):
        unit += " · red: nearest to the reconstruction"
    return unit


def _draw_header(
    draw: ImageDraw.ImageDraw, values: Vector, corner: tuple[int, int], tile: int, gap: int, text: int
) -> None:
    """The columns' values above them; where they are too wide, above every second, third …"""
    texts = ticks([float(value) for value in values])
    every = math.ceil((max(text_width(words, text) for words in texts) + text // 2) / (tile + gap))
    for k in range(0, len(texts), every):
        middle = corner[0] + k * (tile + gap) + tile // 2
        draw.text((middle, corner[1]), texts[k], fill=INK, font=font(text), anchor="ma")


def _name_lines(cell: Cell, text: int, max_lines: int) -> list[str]:
    """Title, KL and label of a row, in as many lines as there is room for."""
    if not cell.label or max_lines < 2:
        words = [word for word in (cell.title, cell.note, cell.label) if word]
        return words if len(words) <= max_lines else ["  ".join(words)]
    head = [cell.title, cell.note] if max_lines > 2 and cell.note else [f"{cell.title}  {cell.note}".rstrip()]
    return head + wrapped(cell.label, text, max(12 * text, text_width(head[0], text)), max_lines - len(head))


def _draw_name(
    draw: ImageDraw.ImageDraw, cell: Cell, lines: list[str], place: tuple[int, int], text: int, line: int
) -> None:
    """A row's name, around the middle of its left side."""
    x, y = place[0], place[1] - len(lines) * line // 2
    for words in lines:
        muted = cell.muted or words == cell.note
        draw.text((x, y), words, fill=MUTED if muted else INK, font=font(text))
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
        thickness = max(1, (gap - 1) // 2)
        box = (x - thickness, y - thickness, x + tile + thickness - 1, y + tile + thickness - 1)
        draw.rectangle(box, outline=ACCENT, width=thickness)
