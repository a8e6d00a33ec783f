"""Texts beside pictures: font, widths and numbers; no torch."""

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from PIL import ImageFont

INK, MUTED, FAINT, ACCENT, PAPER = "#1b1b1f", "#62626a", "#d5d5da", "#d6442c", "#ffffff"
"""Colours of text, secondary text, lines, marks and background."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=32)
def font(size_px: int) -> Font:
    """Returns the scalable font that comes with Pillow, which looks the same on every machine."""
    return ImageFont.load_default(size_px)


def drawable(label: str) -> str:
    """Returns a label as the font can draw it, which has no arrow."""
    return label.replace(" → ", " to ")


def text_size_px(tile_px: int) -> int:
    """Returns the size of text beside tiles: legible beside small ones, in proportion to large ones."""
    return max(12, min(32, round(tile_px / 9)))


@lru_cache(maxsize=4096)
def text_width(text: str, size_px: int) -> int:
    """Returns the width of a text in pixels."""
    return round(font(size_px).getlength(text) + 0.5)


def fitted(text: str, size_px: int, width_px: int) -> str:
    """Returns the text, shortened with an ellipsis if it is wider than `width_px`.

    The measured pieces double until one is too wide, so that a text of 300 kB takes no longer than one that nearly
    fits.
    """
    count = _most_that_fits(len(text), lambda n: text_width(text[:n], size_px) <= width_px)
    if count == len(text):
        return text
    count = _most_that_fits(count, lambda n: text_width(text[:n] + "…", size_px) <= width_px)
    return text[:count].rstrip(" ,") + "…" if count else ""


def _most_that_fits(most: int, fits: Callable[[int], bool]) -> int:
    """Finds the largest number that fits, by doubling and then by bisection; 0 if 1 does not fit.

    Args:
        most: Upper bound of the number.
        fits: Tells whether a number fits; if one does, all below it must fit too.
    """
    fitting, beyond = 0, 1
    while beyond <= most and fits(beyond):
        fitting, beyond = beyond, 2 * beyond
    beyond = min(beyond, most + 1)
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        if fits(middle):
            fitting = middle
        else:
            beyond = middle
    return fitting


def wrapped(text: str, size_px: int, width_px: int, max_lines: int) -> list[str]:
    """Breaks a text between words into lines of at most `width_px`.

    Lines that do not fit, and the last line if it cannot hold the rest, end in an ellipsis.
    """
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < max_lines:
        count = max(1, _most_that_fits(len(words), partial(_words_fit, words, size_px, width_px)))
        if len(lines) == max_lines - 1:
            count = len(words)
        lines.append(fitted(" ".join(words[:count]), size_px, width_px))
        words = words[count:]
    return lines


def _words_fit(words: list[str], size_px: int, width_px: int, count: int) -> bool:
    line = " ".join(words[:count])
    return fitted(line, size_px, width_px) == line


@lru_cache(maxsize=32)
def _widest_digit(size_px: int) -> str:
    return max("0123456789", key=font(size_px).getlength)


def number_width(text: str, size_px: int) -> int:
    """Returns the largest width in pixels that a text has with any other digits in the place of its own."""
    return text_width(re.sub(r"\d", _widest_digit(size_px), text), size_px)


def digits_for(span: float) -> int:
    """Returns the number of decimals that tell values of a range apart: two, or more for a narrow range."""
    return 2 if span == 0 else max(2, min(6, 1 - math.floor(math.log10(span))))


def ticks(values: Sequence[float]) -> list[str]:
    """Formats the numbers of a row with the fewest decimals that show them exactly.

    If no number of decimals does, as many as `digits_for` says are used.
    """
    most = digits_for(max(values) - min(values))
    exact = (n for n in range(most) if all(abs(round(v, n) - v) < 1e-6 for v in values))
    digits = next(exact, most)
    texts = [f"{value:.{digits}f}" for value in values]
    return [text.removeprefix("-") if not text.strip("-0.") else text for text in texts]


def signed(value: float, digits: int = 2) -> str:
    """Formats a latent value with its sign, such as +1.20, -0.35 or 0.00. (The font has neither − nor σ.)"""
    text = f"{value:+.{digits}f}"
    return text if text.strip("+-0.") else text[1:]


def nats(kl: float) -> str:
    """Formats a KL divergence, such as 7.67 nats."""
    return f"{kl:.2f} nats"
