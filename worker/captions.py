"""Texts beside the pictures: font, measures, numbers; no torch."""

from functools import lru_cache

from PIL import ImageFont

INK, MUTED, FAINT, ACCENT, PAPER = "#1b1b1f", "#8a8a92", "#d5d5da", "#d6442c", "#ffffff"
"""Colours of text, of secondary text, of lines, of marks and of the ground."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=32)
def font(size_px: int) -> Font:
    """Pillow's own scalable font: the same letters on every machine."""
    return ImageFont.load_default(size_px)


def text_size_px(tile_px: int) -> int:
    """Size of the text beside tiles: legible beside small ones, in proportion to large ones."""
    return max(11, min(32, round(tile_px / 9)))


def text_width(text: str, size_px: int) -> int:
    """Width in pixels."""
    return round(font(size_px).getlength(text) + 0.5)


def fitted(text: str, size_px: int, width_px: int) -> str:
    """The text, cut with an ellipsis where it is wider than the place for it."""
    if text_width(text, size_px) <= width_px:
        return text
    while text and text_width(text + "…", size_px) > width_px:
        text = text[:-1]
    return text.rstrip() + "…" if text else ""


def signed(value: float) -> str:
    """A latent value with its sign, two digits: +1.20, -0.35, 0.00. (The font has neither − nor σ.)"""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def nats(kl: float) -> str:
    """A KL divergence: 7.67 nats."""
    return f"{kl:.2f} nats"
