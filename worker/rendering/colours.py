"""Names of colours, and distances between colours as the eye sees them; no torch.

Colours are compared in OKLab (Ottosson 2020), in which equal distances look about equally large: from black to white
the distance is 1, and .02 is just noticeable.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

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
    "beige": ("e0bc98", "edd5b0", "caa07a"),
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
    "dark blue": ("101860", "203060", "25557c"),
    "grey blue": ("687c98", "8898b0"),
    "violet": ("8030d0", "6840a0", "9860d8"),
    "lavender": ("c8b8f0", "d0d0f8", "a898d0"),
    "magenta": ("e030d0", "c040a0"),
    "pink": ("ffc8d0", "f898b0", "f0b0d0", "e88090", "ff5090"),
    "mauve": ("906880", "b08898"),
}
"""Examples of each colour in hexadecimal sRGB; a colour has the name of the nearest example."""


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
