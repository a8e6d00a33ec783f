"""Names of colours, distances between colours as the eye sees them, and changes of colour in words; no torch.

Colours are compared in OKLab (Ottosson 2020), in which equal distances look about equally large: from black to white
the distance is 1, and .02 is just noticeable.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

JUST_VISIBLE = 0.04
"""Distance in OKLab that is just noticeable between the colours of regions in two pictures side by side."""
_NEAR, _AGREEING = 0.07, 0.6
"""Colours within the distance count as one; so many of the starts must agree on a colour that a label names."""
_STEADY = 0.6
"""Smallest ratio of the net change to the mean size of the changes, for a direction such as lighter."""
_SHADE = 0.9
"""Smallest share that lightness has in a change of shade."""
_DARK, _LIGHT, _DULL = 0.5, 0.85, 0.1
"""Lightness below which a dull colour is dark, and above which one is light; largest chroma of a dull colour."""

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)

_NAMED = {
    "black": ("000000", "1c1c1c", "262a30"),
    "dark grey": ("404040", "555555"),
    "grey": ("808080", "969696"),
    "light grey": ("b8b8b8", "d4d4d4"),
    "white": ("ffffff", "ededed"),
    "red": ("d01818", "ff3020", "e05050"),
    "dark red": ("701010", "8a2a30"),
    "orange": ("f08020", "ffa030", "d87838"),
    "brown": ("8a5530", "603a1c", "7a4a3a", "a5683c", "c8844f", "b58143"),
    "dark brown": ("3a2416", "4a2c22"),
    "beige": ("e0bc98", "edd5b0", "fde0b4", "caa07a"),
    "yellow": ("f5dc30", "ffff40", "e8c860", "ffec90"),
    "olive": ("808030", "5c5c20", "9a9650"),
    "lime": ("a8e030", "c0f060"),
    "green": ("30a838", "50c860", "408848"),
    "dark green": ("104818", "284c30"),
    "light green": ("a0f0b8", "b8e8b0", "80d8a8"),
    "teal": ("108080", "30a8a0", "407878"),
    "cyan": ("30e0e8", "60d0e0"),
    "light blue": ("b0dcf8", "88c0f0", "a8c8e8"),
    "blue": ("2848d8", "4080e8", "3068b0"),
    "dark blue": ("101860", "1c2444", "203060", "25557c"),
    "grey blue": ("687c98", "8898b0"),
    "violet": ("8030d0", "6840a0", "9860d8"),
    "lavender": ("c8b8f0", "d0d0f8", "a898d0"),
    "magenta": ("e030d0", "c040a0"),
    "pink": ("ffc8d0", "f898b0", "f0b0d0", "e88090", "ff5090"),
    "mauve": ("906880", "b08898"),
}
"""Examples of each colour in hexadecimal sRGB; a colour has the name of the nearest example."""

_FAMILIES = {
    "grey": ("dark grey", "light grey"),
    "red": ("dark red",),
    "brown": ("dark brown",),
    "green": ("dark green", "light green", "olive", "lime"),
    "blue": ("dark blue", "light blue", "grey blue"),
    "violet": ("lavender", "mauve"),
    "pink": ("magenta",),
}
"""The plain colours that have shades with names of their own; any other colour is the only one of its family."""
_FAMILY_OF = {shade: family for family, shades in _FAMILIES.items() for shade in shades}


def oklab(pixels: NDArray[np.floating]) -> Array:
    """Returns pixels in OKLab.

    Args:
        pixels: sRGB in [0, 1], (…, 3), or grey, (…, 1).

    Returns:
        (…, 3): lightness in [0, 1], from green to red, and from blue to yellow.
    """
    rgb = np.broadcast_to(np.clip(pixels, 0, 1), (*pixels.shape[:-1], 3)).astype(np.float32)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lab: Array = np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T
    return lab


def _examples() -> tuple[list[str], Array]:
    names = [name for name, examples in _NAMED.items() for _ in examples]
    bytes_ = [bytes.fromhex(example) for examples in _NAMED.values() for example in examples]
    return names, oklab(np.array([list(rgb) for rgb in bytes_], np.float32) / 255)


_NAMES, _EXAMPLES = _examples()


def colour_name(colour: Array) -> str:
    """Returns the name of a colour in OKLab, (3,)."""
    return _NAMES[int(np.square(_EXAMPLES - colour).sum(1).argmin())]


def medoid(points: Array, weights: Array | None = None) -> int:
    """Returns the index of the point from which the (weighted) sum of distances to all others is smallest.

    It is one of the points, so the colour that it stands for can be seen, which need not hold for their mean.

    Args:
        points: (N, K).
        weights: (N,), which are all 1 by default.
    """
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return int((distances if weights is None else distances * weights).sum(1).argmin())


def colour_change(first: Array, last: Array) -> tuple[str, float]:
    """Describes how a colour changes.

    Args:
        first: The colour at the first end, for each start, (N, 3) in OKLab.
        last: The colour at the last end, (N, 3).

    Returns:
        The words, which are empty if the starts disagree, and the size of the change in just noticeable steps.
    """
    change = last - first
    size = float(np.linalg.norm(change, axis=1).mean())
    score, steady = size / JUST_VISIBLE, float(np.linalg.norm(change.mean(0))) / max(size, 1e-9)
    (begin, with_begin), (end, with_end) = _agreed(first), _agreed(last)
    if begin and end and begin != end:
        return f"{begin} → {end}", score
    if steady < _STEADY:
        return f"becomes {end}" if end and not begin else "", score
    shown = _representative(first, last, with_begin & with_end)
    begin, end = begin or colour_name(first[shown]), end or colour_name(last[shown])
    if begin == end:
        end = _towards(first, last)
        if begin not in ("black", "white"):
            end = f"{end} {begin.removeprefix('light ').removeprefix('dark ')}"
    return f"{begin} → {end}", steady * score


def common_shade(first: Array, last: Array) -> str:
    """Returns lighter or darker where things of different colours become so, else an empty text.

    Args:
        first: The colour at the first end, for each start, (N, 3) in OKLab.
        last: The colour at the last end, (N, 3).
    """
    net = (last - first).mean(0)
    is_shade = abs(float(net[0])) >= _SHADE * float(np.linalg.norm(net))
    return _towards(first, last) if is_shade and not _agreed(first)[0] and not _agreed(last)[0] else ""


def in_plain_words(words: str) -> str:
    """Returns words of `colour_change` with the plain colour, such as blue, in the place of a shade of it.

    Words that name two shades of one colour stay.
    """
    ends = [_FAMILY_OF.get(name, name) for name in words.split(" → ")]
    return words if len(set(ends)) == 1 else " → ".join(ends)


def _representative(first: Array, last: Array, candidates: Mask) -> int:
    """Returns the index of the candidate whose colours stand for those of all candidates.

    It is the first start, that of the typical picture, if it is one of them and its colour changes about as the mean.
    """
    change = last - first
    net = change.mean(0)
    if candidates[0] and float(change[0] @ net) >= float(net @ net) / 2:
        return 0
    chosen = np.flatnonzero(candidates) if candidates.any() else np.arange(len(first))
    return int(chosen[medoid(np.concatenate([first, last], axis=1)[chosen])])


def _agreed(colours: Array) -> tuple[str, Mask]:
    """Returns the name of the colours if most of them are about alike, else an empty text; and which of them it suits.

    It is the name of the first start's colour, which is that of the typical picture, if this is one of those alike.
    Where only the family is shared, such as blue, or only the lightness, its word is the name.
    """
    names = np.array([colour_name(colour) for colour in colours])
    middle = medoid(colours)
    alike = (np.linalg.norm(colours - colours[middle], axis=1) < _NEAR) | (names == names[middle])
    if alike.mean() >= _AGREEING:
        return str(names[0] if alike[0] else names[middle]), alike
    families = np.array([_FAMILY_OF.get(name, name) for name in names])
    family = Counter(families).most_common(1)[0][0]
    dull = chroma(colours) < _DULL
    shared = {
        str(family): families == family,
        "dark": dull & (colours[:, 0] < _DARK),
        "light": dull & (colours[:, 0] > _LIGHT),
    }
    return next(
        ((word, suits) for word, suits in shared.items() if suits.mean() >= _AGREEING), ("", np.ones(len(names), bool))
    )


def _towards(first: Array, last: Array) -> str:
    """Returns the direction of a change of colour."""
    light, red, yellow = (float(value) for value in (last - first).mean(0))
    more = float((chroma(last) - chroma(first)).mean())
    words = {
        "lighter" if light > 0 else "darker": abs(light) / 2,  # Lightness has a range twice as large.
        "redder" if red > 0 else "greener": abs(red),
        "yellower" if yellow > 0 else "bluer": abs(yellow),
        "more colourful" if more > 0 else "paler": abs(more),
    }
    return max(words, key=lambda word: words[word])


def chroma(lab: Array) -> Array:
    """Returns the distance of colours in OKLab, (…, 3), from grey."""
    distance: Array = np.hypot(lab[..., 1], lab[..., 2])
    return distance
